//! Look-up by name.

/// The indices of a list's items sorted by name. Names are not stored again.
pub(super) struct NameIndex {
    order: Vec<usize>,
}

/// The indices of two items with the same name, in list order.
pub(super) struct Duplicate {
    pub(super) first: usize,
    pub(super) second: usize,
}

impl NameIndex {
    /// Sorts the items by name; an error if two names are equal.
    pub(super) fn new<T>(items: &[T], name: impl Fn(&T) -> &str) -> Result<NameIndex, Duplicate> {
        let mut order: Vec<usize> = (0..items.len()).collect();
        order.sort_unstable_by(|&a, &b| name(&items[a]).cmp(name(&items[b])).then(a.cmp(&b)));
        let twin = order.windows(2).find(|pair| name(&items[pair[0]]) == name(&items[pair[1]]));
        match twin {
            Some(pair) => Err(Duplicate { first: pair[0], second: pair[1] }),
            None => Ok(NameIndex { order }),
        }
    }

    /// The item named `wanted` in the list that the index was made from.
    pub(super) fn find<'a, T>(
        &self,
        items: &'a [T],
        name: impl Fn(&T) -> &str,
        wanted: &str,
    ) -> Option<&'a T> {
        let found = self.order.binary_search_by(|&i| name(&items[i]).cmp(wanted)).ok()?;
        self.order.get(found).and_then(|&i| items.get(i))
    }
}

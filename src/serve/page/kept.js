// Small texts that outlive the page. Where the browser blocks storage they live as long as the page.

const unkept = new Map();

/** The text that is kept under a name, or null; `where` is the storage of the tab or, left out, the one for good. */
export function recall(name, where = 'localStorage') {
	try {
		return window[where].getItem(name);
	} catch {
		return unkept.get(name) ?? null;
	}
}

/** Keeps a text under a name; null forgets it. */
export function keep(name, text, where = 'localStorage') {
	try {
		if (text === null) window[where].removeItem(name);
		else window[where].setItem(name, text);
	} catch {
		unkept.set(name, text);
	}
}

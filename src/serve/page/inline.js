// Markdown inside a line: code, emphasis, links, formulas. Text → pieces → DOM nodes, in time linear in the text.

import { el } from './dom.js';

/** Emphasis deeper than this is not shown as such: a tree of nodes that deep would overflow the browser's stack. */
const MAX_DEPTH = 16;

const SPECIAL = /[\\`*_~[\]!<&$h\n]/g;
/** The method of `Reader` for each special character; it says true if it took something. */
const METHODS = {
	'\\': 'escape', '`': 'code', '*': 'run', _: 'run', '~': 'run', '[': 'open', '!': 'image', ']': 'close', '<': 'autolink',
	'&': 'entity', $: 'dollars', h: 'address', '\n': 'lineBreak',
};
const PUNCTUATION = /[!-/:-@[-`{-~\p{P}\p{S}]/u;
const ENTITIES = { amp: '&', lt: '<', gt: '>', quot: '"', apos: "'", nbsp: '\u00a0' };

/** The address if a link may lead there: the web and mail, and nothing that runs code. */
function safeAddress(text) {
	try {
		const { protocol, href } = new URL(text);
		return ['http:', 'https:', 'mailto:'].includes(protocol) ? href : null;
	} catch {
		return null;
	}
}

const linkTo = (href) => el('a', { href, rel: 'noopener noreferrer nofollow', target: '_blank' });

/** Collects pieces: { text } | { node } | { open, tag | href } | { close } | a run of * _ ~ that may become emphasis. */
class Reader {
	constructor(text) {
		this.text = text;
		this.at = 0;
		this.pieces = [];
		this.brackets = [];
		this.runs = [];
		// For each length of a run of backticks, where such runs begin; made when the first one is met.
		this.ticks = null;
	}

	read() {
		const { text } = this;
		while (this.at < text.length) {
			SPECIAL.lastIndex = this.at;
			const found = SPECIAL.exec(text);
			const end = found ? found.index : text.length;
			this.say(text.slice(this.at, end));
			this.at = end;
			if (found) this.special(found[0]);
		}
		this.emphasis(0);
		return this.pieces;
	}

	say(text) {
		if (text === '') return;
		const last = this.pieces.at(-1);
		if (last?.text !== undefined && last.run === undefined && last.bracket === undefined) last.text += text;
		else this.pieces.push({ text });
	}

	/** Takes what `pattern` (sticky) finds here. */
	take(pattern) {
		pattern.lastIndex = this.at;
		const found = pattern.exec(this.text);
		if (found) this.at += found[0].length;
		return found;
	}

	special(char) {
		if (this[METHODS[char]](char)) return;
		this.say(char);
		this.at += 1;
	}

	escape() {
		if (this.formula(/\\\([^]{1,1000}?\\\)|\\\[[^]{1,1000}?\\\]/y)) return true;
		const found = this.take(/\\([!-/:-@[-`{-~])/y);
		if (found) this.say(found[1]);
		return Boolean(found);
	}

	dollars() {
		return this.formula(/\$\$[^$]{1,1000}\$\$|\$(?![\s$])[^$\n]*?[^\s$\\]\$(?!\d)/y);
	}

	/** A formula is kept as it is written, so that its stars and underscores are no emphasis. */
	formula(pattern) {
		const found = this.take(pattern);
		if (found) this.pieces.push({ node: el('span', { class: 'math' }, found[0]) });
		return Boolean(found);
	}

	lineBreak() {
		const last = this.pieces.at(-1);
		if (last?.text?.endsWith('\\') && !last.run) last.text = last.text.slice(0, -1);
		else if (last?.text && !last.run) last.text = last.text.trimEnd();
		this.pieces.push({ node: el('br') });
		this.at += 1;
		this.take(/ +/y);
		return true;
	}

	code() {
		if (!this.ticks) {
			this.ticks = new Map();
			for (const { 0: run, index } of this.text.matchAll(/`+/g)) {
				if (!this.ticks.has(run.length)) this.ticks.set(run.length, []);
				this.ticks.get(run.length).push(index);
			}
			for (const begins of this.ticks.values()) begins.reverse();
		}
		const [run] = this.take(/`+/y);
		const begins = this.ticks.get(run.length) ?? [];
		while (begins.length > 0 && begins.at(-1) < this.at) begins.pop();
		if (begins.length === 0) {
			this.say(run);
			return true;
		}
		let code = this.text.slice(this.at, begins.at(-1)).replaceAll('\n', ' ');
		if (/^ .*[^ ].* $/.test(code)) code = code.slice(1, -1);
		this.pieces.push({ node: el('code', {}, code) });
		this.at = begins.at(-1) + run.length;
		return true;
	}

	entity() {
		const found = this.take(/&(?:(amp|lt|gt|quot|apos|nbsp)|#(\d{1,7})|#[xX]([0-9a-fA-F]{1,6}));/y);
		if (!found) return false;
		const code = found[2] ? Number(found[2]) : parseInt(found[3], 16);
		const bad = !(code > 0 && code <= 0x10ffff) || (code >= 0xd800 && code < 0xe000);
		this.say(found[1] ? ENTITIES[found[1]] : bad ? '\ufffd' : String.fromCodePoint(code));
		return true;
	}

	link(text, address) {
		const href = safeAddress(address);
		if (!href) return false;
		const link = linkTo(href);
		link.append(text);
		this.pieces.push({ node: link });
		return true;
	}

	autolink() {
		const found = this.take(/<((?:https?:\/\/|mailto:)[^\s<>]*)>/y);
		if (found && !this.link(found[1], found[1])) this.say(found[0]);
		return Boolean(found);
	}

	/** A bare address, without the punctuation of the sentence around it. */
	address() {
		if (/\w/.test(this.text[this.at - 1] ?? '')) return false;
		const begin = this.at;
		const found = this.take(/https?:\/\/[^\s<>"'`|*]{1,2000}/y);
		if (!found) return false;
		let [address] = found;
		for (;;) {
			const cut = address.replace(/[.,;:!?_~]+$/, '');
			const unpaired = cut.endsWith(')') && cut.split(')').length > cut.split('(').length;
			const unpairedBracket = cut.endsWith(']') && !cut.includes('[');
			address = unpaired || unpairedBracket ? cut.slice(0, -1) : cut;
			if (!unpaired && !unpairedBracket) break;
		}
		this.at = begin + address.length;
		if (!this.link(address, address)) this.say(address);
		return true;
	}

	image() {
		return this.text[this.at + 1] === '[' && this.open('![');
	}

	open(bracket) {
		const piece = { text: bracket, bracket, index: this.pieces.length };
		this.pieces.push(piece);
		this.brackets.push(piece);
		this.at += bracket.length;
		return true;
	}

	/** `](address "title")` makes a link of all since the last bracket; an image becomes a link to it, never a request. */
	close() {
		const opener = this.brackets.pop();
		if (!opener) return false;
		const target = /\]\(\s*(?:<([^<>\n]*)>|((?:[^\s()\\]|\\.|\([^\s()]*\))*))(?:\s+(?:"[^"\n]*"|'[^'\n]*'))?\s*\)/y;
		const found = this.take(target);
		if (!found) return false;
		const href = safeAddress((found[1] ?? found[2]).replace(/\\([!-/:-@[-`{-~])/g, '$1'));
		this.emphasis(opener.index + 1);
		if (href) {
			Object.assign(opener, { text: undefined, open: true, href });
			this.pieces.push({ close: true });
			// A link holds no other link.
			this.brackets = [];
			for (const piece of this.pieces.slice(opener.index)) {
				if (piece.node?.localName === 'a') piece.node = document.createTextNode(piece.node.textContent);
			}
		} else this.say(found[0]);
		return true;
	}

	run(char) {
		const [run] = this.take({ '*': /\*+/y, _: /_+/y, '~': /~+/y }[char]);
		const before = this.text[this.at - run.length - 1] ?? ' ';
		const after = this.text[this.at] ?? ' ';
		const [spaceBefore, spaceAfter] = [before, after].map((c) => /\s/.test(c));
		const [markBefore, markAfter] = [before, after].map((c) => PUNCTUATION.test(c));
		const left = !spaceAfter && (!markAfter || spaceBefore || markBefore);
		const right = !spaceBefore && (!markBefore || spaceAfter || markAfter);
		const piece = { text: run, run: char, left: run.length, index: this.pieces.length };
		piece.opens = char === '_' ? left && (!right || markBefore) : left;
		piece.closes = char === '_' ? right && (!left || markAfter) : right;
		if (char === '~' && run.length !== 2) Object.assign(piece, { opens: false, closes: false });
		this.pieces.push(piece);
		this.runs.push(piece);
		return true;
	}

	/** Pairs the runs from piece `begin` on: each closer with the nearest opener of its kind. */
	emphasis(begin) {
		let first = this.runs.length;
		while (first > 0 && this.runs[first - 1].index >= begin) first -= 1;
		const openers = { '*': [], _: [], '~': [] };
		const order = [];
		for (const run of this.runs.splice(first)) {
			run.after = [];
			run.before = [];
			while (run.closes && run.left > 0 && openers[run.run].length > 0) {
				const opener = openers[run.run].at(-1);
				const n = run.run === '~' || (run.left >= 2 && opener.left >= 2) ? 2 : 1;
				const tag = run.run === '~' ? 'del' : n === 2 ? 'strong' : 'em';
				// Marks that were opened between the two can no longer be closed.
				while (order.at(-1) !== opener) openers[order.pop().run].pop();
				opener.after.unshift({ open: true, tag });
				run.before.push({ close: true });
				opener.left -= n;
				run.left -= n;
				if (opener.left === 0) {
					openers[run.run].pop();
					order.pop();
				}
			}
			if (run.opens && run.left > 0) {
				openers[run.run].push(run);
				order.push(run);
			}
		}
	}
}

/** The pieces of a run in their order: what it closes, what is left of its characters, what it opens. */
function spread(piece) {
	if (piece.run === undefined) return [piece];
	return [...piece.before ?? [], { text: piece.run.repeat(piece.left) }, ...piece.after ?? []];
}

/** The nodes of a line of Markdown. */
export function inline(line) {
	const all = document.createDocumentFragment();
	const open = [all];
	let tooDeep = 0;
	let text = '';
	// Texts that follow each other become one node.
	const put = (node) => {
		const nodes = [text, node].filter(Boolean);
		open.at(-1).append(...nodes);
		text = '';
		return node;
	};
	for (const piece of new Reader(line).read().flatMap(spread)) {
		if (piece.open && open.length > MAX_DEPTH) tooDeep += 1;
		else if (piece.open) open.push(put(piece.href ? linkTo(piece.href) : el(piece.tag)));
		else if (piece.close && tooDeep > 0) tooDeep -= 1;
		else if (piece.close) {
			put();
			open.pop();
		} else if (piece.node) put(piece.node);
		else text += piece.text;
	}
	put();
	return all;
}

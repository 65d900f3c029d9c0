// Markdown's blocks: text → blocks → DOM nodes. No HTML is read; it stays the text that it is.
//
// Not the whole of CommonMark: an indented line is no code block and an underlined one no heading, since answers indent
// and underline by chance far more often than by intent; a line break in a paragraph stays a line break.

import { el } from './dom.js';
import { CodeBlock } from './code.js';
import { inline } from './inline.js';

/** Quotes and lists inside each other beyond this depth are read as text, so that no input overflows the stack. */
const MAX_DEPTH = 12;

const FENCE = /^( {0,3})(`{3,}|~{3,})([^`]*)$/;
const HEADING = /^ {0,3}(#{1,6})(?=[ \t]|$)/;
const RULE = /^ {0,3}(?:(?:\*[ \t]*){3,}|(?:-[ \t]*){3,}|(?:_[ \t]*){3,})$/;
const QUOTE = /^ {0,3}>[ ]?/;
const ITEM = /^( {0,3})([-*+]|(\d{1,9})[.)])([ \t]{1,4}(?![ \t])|(?=[ \t]{5})|$)/;
const TABLE_RULE = /^\|?[ \t]*:?-+:?(?:[ \t]*\|[ \t]*:?-+:?)*(?:[ \t]*\|)?$/;

const isBlank = (line) => line.trim() === '';

/** The columns of white space at the beginning; a tab counts as four. */
const indentOf = (line) => /^[ \t]*/.exec(line)[0].replaceAll('\t', '    ').length;

/** The line without its first `columns` of white space; all other tabs stay, since code may need them. */
function dedent(line, columns) {
	let at = 0;
	let left = columns;
	for (; left > 0 && (line[at] === ' ' || line[at] === '\t'); at += 1) left -= line[at] === ' ' ? 1 : 4;
	return ' '.repeat(Math.max(0, -left)) + line.slice(at);
}

/** The cells of a table's row; a bar that is escaped or inside code does not divide. */
function cells(line) {
	const row = [];
	let cell = '';
	let code = false;
	const text = line.trim().replace(/^\|/, '');
	for (let at = 0; at < text.length; at += 1) {
		const char = text[at];
		if (char === '\\' && text[at + 1] === '|') {
			cell += '|';
			at += 1;
		} else if (char === '|' && !code) {
			row.push(cell.trim());
			cell = '';
		} else {
			if (char === '`') code = !code;
			cell += char;
		}
	}
	if (cell.trim() !== '') row.push(cell.trim());
	return row;
}

function startsTable(lines, at) {
	if (at + 1 >= lines.length || !lines[at].includes('|') || !TABLE_RULE.test(lines[at + 1].trim())) return false;
	return cells(lines[at]).length === cells(lines[at + 1]).length;
}

/** True if a paragraph ends before this line. A list may interrupt one if it begins with 1 and has a text. */
function interrupts(lines, at) {
	const line = lines[at];
	if (isBlank(line) || FENCE.test(line) || HEADING.test(line) || RULE.test(line) || QUOTE.test(line)) return true;
	const item = ITEM.exec(line);
	if (item) return line.length > item[0].length && (item[3] === undefined || item[3] === '1');
	return startsTable(lines, at);
}

function readFence(lines, at, [, indent, fence, info]) {
	const close = new RegExp(`^ {0,3}${fence[0] === '`' ? '`' : '~'}{${fence.length},}[ \\t]*$`);
	const text = [];
	let end = at + 1;
	while (end < lines.length && !close.test(lines[end])) {
		text.push(dedent(lines[end], indent.length));
		end += 1;
	}
	const closed = end < lines.length;
	const language = info.trim().split(/[\s{,]/, 1)[0];
	return { type: 'code', language, text: text.join('\n'), closed, end: closed ? end + 1 : end };
}

function readQuote(lines, at, depth) {
	const inner = [];
	let end = at;
	while (end < lines.length) {
		if (QUOTE.test(lines[end])) inner.push(lines[end].replace(QUOTE, ''));
		else if (end > at && !isBlank(inner.at(-1)) && !interrupts(lines, end)) inner.push(lines[end]);
		else break;
		end += 1;
	}
	return { type: 'quote', blocks: parseLines(inner, depth + 1), end };
}

/** One item: its own line and every line after it that is indented as far as its text, or goes on a paragraph. */
function readItem(lines, at, marker, depth) {
	const width = marker[0].length + (marker[4] === '' ? 1 : 0);
	// Answers often indent by two where CommonMark asks for the marker's width.
	const least = Math.min(width, marker[1].length + 2);
	const inner = [lines[at].slice(marker[0].length)];
	let end = at + 1;
	let blanks = 0;
	for (; end < lines.length; end += 1) {
		const line = lines[end];
		if (isBlank(line)) blanks += 1;
		else if (indentOf(line) >= least) blanks = 0;
		else if (blanks > 0 || interrupts(lines, end) || ITEM.test(line)) break;
		inner.push(dedent(line, width));
	}
	const task = /^\[([ xX])\][ \t]+/.exec(inner[0]);
	if (task) inner[0] = inner[0].slice(task[0].length);
	return { blocks: parseLines(inner, depth + 1), task: task ? task[1] !== ' ' : null, blanks, end };
}

function readList(lines, at, depth) {
	const first = ITEM.exec(lines[at]);
	const ordered = first[3] !== undefined;
	const sign = first[2].at(-1);
	const list = { type: 'list', ordered, start: ordered ? Number(first[3]) : 1, items: [], loose: false, end: at };
	for (let marker = first; marker?.[2].at(-1) === sign; marker = ITEM.exec(lines[list.end] ?? '')) {
		if (RULE.test(lines[list.end])) break;
		const item = readItem(lines, list.end, marker, depth);
		list.items.push(item);
		list.end = item.end;
	}
	// Loose: a blank line between two items, or two paragraphs in one.
	list.loose = list.items.some(({ blanks, blocks }, index) => (blanks > 0 && index + 1 < list.items.length)
		|| blocks.filter(({ type }) => type === 'paragraph').length > 1);
	return list;
}

function readTable(lines, at) {
	const aligns = cells(lines[at + 1]).map((cell) => {
		if (cell.endsWith(':')) return cell.startsWith(':') ? 'center' : 'right';
		return cell.startsWith(':') ? 'left' : null;
	});
	const rows = [];
	let end = at + 2;
	for (; end < lines.length && lines[end].includes('|') && !isBlank(lines[end]); end += 1) rows.push(cells(lines[end]));
	return { type: 'table', aligns, head: cells(lines[at]), rows, end };
}

function readParagraph(lines, at) {
	let end = at + 1;
	while (end < lines.length && !interrupts(lines, end)) end += 1;
	return { type: 'paragraph', text: lines.slice(at, end).map((line) => line.trimStart()).join('\n').trimEnd(), end };
}

function readBlock(lines, at, depth) {
	const line = lines[at];
	const fence = FENCE.exec(line);
	if (fence) return readFence(lines, at, fence);
	const heading = HEADING.exec(line);
	if (heading) {
		const text = line.slice(heading[0].length).trim().replace(/(?:^|[ \t])#+$/, '');
		return { type: 'heading', level: heading[1].length, text, end: at + 1 };
	}
	if (RULE.test(line)) return { type: 'rule', end: at + 1 };
	if (depth < MAX_DEPTH) {
		if (QUOTE.test(line)) return readQuote(lines, at, depth);
		if (ITEM.test(line)) return readList(lines, at, depth);
	}
	if (startsTable(lines, at)) return readTable(lines, at);
	return readParagraph(lines, at);
}

function parseLines(lines, depth) {
	const blocks = [];
	for (let at = 0; at < lines.length;) {
		if (isBlank(lines[at])) at += 1;
		else {
			const block = readBlock(lines, at, depth);
			blocks.push({ ...block, begin: at });
			at = block.end;
		}
	}
	return blocks;
}

export const splitLines = (text) => text.split(/\r\n|\n|\r/);

/** The blocks of a text, each with the lines from `begin` up to `end` that it takes. */
export const parse = (text) => parseLines(splitLines(text), 0);

function renderItem({ blocks, task }, loose) {
	const item = el('li', task === null ? {} : { class: 'task' });
	if (task !== null) {
		item.append(el('input', { type: 'checkbox', disabled: true, checked: task, 'aria-label': task ? 'done' : 'open' }));
	}
	for (const block of blocks) {
		// The paragraphs of a tight list have no space around them.
		if (block.type === 'paragraph' && !loose) item.append(inline(block.text));
		else item.append(render(block));
	}
	return item;
}

function renderTable({ aligns, head, rows }) {
	const row = (texts, tag) => el('tr', {}, ...aligns.map((align, column) => el(
		tag,
		{ class: align && `align-${align}`, scope: tag === 'th' && 'col' },
		inline(texts[column] ?? ''),
	)));
	const table = el('table', {}, el('thead', {}, row(head, 'th')), el('tbody', {}, ...rows.map((texts) => row(texts, 'td'))));
	return el('div', { class: 'table', role: 'region', 'aria-label': 'Table', tabindex: 0 }, table);
}

/** The node of a block. */
export function render(block) {
	switch (block.type) {
		case 'code': return new CodeBlock({ ...block, closed: true }).node;
		// The page's own headings are the chat (1) and its messages (2).
		case 'heading': return el(`h${Math.min(6, block.level + 2)}`, { class: `h${block.level}` }, inline(block.text));
		case 'rule': return el('hr');
		case 'quote': return el('blockquote', {}, ...block.blocks.map(render));
		case 'list': {
			const items = block.items.map((item) => renderItem(item, block.loose));
			const start = block.ordered && block.start !== 1 && block.start;
			return el(block.ordered ? 'ol' : 'ul', { start }, ...items);
		}
		case 'table': return renderTable(block);
		default: return el('p', {}, inline(block.text));
	}
}

/** The nodes of a text. */
export function markdown(text) {
	const all = document.createDocumentFragment();
	all.append(...parse(text).map(render));
	return all;
}

// Text files that go with a message: by drop, by paste, or picked.

import { el, iconButton } from './dom.js';
import { icon } from './icons.js';
import { bytes } from './format.js';
import { openDialog } from './dialogs.js';

const MAX_BYTES = 1_000_000;

/** The text of a file, or an error for one that is too large or no text. */
async function readText(file) {
	if (file.size > MAX_BYTES) throw new Error(`${file.name} has ${bytes(file.size)}; ${bytes(MAX_BYTES)} is the most.`);
	let text;
	try {
		text = new TextDecoder('utf-8', { fatal: true }).decode(await file.arrayBuffer());
	} catch (cause) {
		throw new Error(`${file.name} is not a text file.`, { cause });
	}
	if (text.includes('\0')) throw new Error(`${file.name} is not a text file.`);
	return { name: file.name, text };
}

/** A small card of a file; a click shows its text. With `remove` it has a button to take it away. */
export function fileCard(file, remove) {
	const show = () => openDialog({
		title: file.name,
		body: el('pre', { class: 'file-text', tabindex: 0 }, file.text),
		className: 'wide',
	});
	const size = bytes(new TextEncoder().encode(file.text).length);
	return el(
		'li',
		{ class: 'file' },
		el(
			'button',
			{ type: 'button', 'aria-label': `Show ${file.name}`, on: { click: show } },
			icon('file'),
			el('span', { class: 'name' }, file.name),
			el('small', {}, size),
		),
		remove && iconButton('close', `Remove ${file.name}`, remove),
	);
}

/** Opens the browser's picker; resolves to the files, none if it is closed. */
export function pickFiles(accept = '') {
	return new Promise((resolve) => {
		const input = el('input', { type: 'file', multiple: true, accept, class: 'unseen', 'aria-hidden': 'true', tabindex: -1 });
		const done = () => {
			input.remove();
			resolve([...input.files]);
		};
		input.addEventListener('change', done);
		input.addEventListener('cancel', done);
		document.body.append(input);
		input.click();
	});
}

/** Reads files: those that are texts, and what is wrong with the others. */
export async function readFiles(list) {
	const results = await Promise.allSettled([...list].map(readText));
	return {
		files: results.filter(({ status }) => status === 'fulfilled').map(({ value }) => value),
		errors: results.filter(({ status }) => status === 'rejected').map(({ reason }) => reason.message),
	};
}

/** Files dropped anywhere on the page go to `take`; while they hover, the page says so. */
export function acceptDrops(take) {
	const veil = el('div', { id: 'drop', hidden: true }, el('p', {}, icon('attach'), 'Drop text files to attach them'));
	document.body.append(veil);
	const hasFiles = (event) => [...event.dataTransfer?.types ?? []].includes('Files');
	window.addEventListener('dragover', (event) => {
		if (!hasFiles(event)) return;
		event.preventDefault();
		veil.hidden = false;
	});
	window.addEventListener('dragleave', (event) => {
		if (event.relatedTarget === null) veil.hidden = true;
	});
	window.addEventListener('drop', (event) => {
		veil.hidden = true;
		if (!hasFiles(event)) return;
		event.preventDefault();
		take(event.dataTransfer.files);
	});
}

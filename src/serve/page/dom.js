// Making DOM nodes. Text always becomes text nodes: no function here or elsewhere on the page reads HTML.

import { icon } from './icons.js';

/**
 * Makes an element. `on` holds event listeners, `data` the dataset, `value` the property of a control; every other
 * property is an attribute, left out if it is null, undefined or false. Children may be nodes, strings or nothing.
 */
export function el(tag, properties, ...children) {
	const node = document.createElement(tag);
	for (const [name, value] of Object.entries(properties ?? {})) {
		if (value === null || value === undefined || value === false) continue;
		if (name === 'on') {
			for (const [event, listener] of Object.entries(value)) node.addEventListener(event, listener);
		} else if (name === 'data') Object.assign(node.dataset, value);
		else if (name === 'value') node.value = value;
		else node.setAttribute(name, value === true ? '' : value);
	}
	node.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
	return node;
}

/** A button with an icon; `label` is its name and its tooltip. */
export function iconButton(name, label, click, properties = {}) {
	return el('button', {
		type: 'button', class: 'icon', 'aria-label': label, title: label, on: { click }, ...properties,
	}, icon(name));
}

/** A button with a text, and an icon where `name` is given. */
export function textButton(label, click, properties = {}, name = null) {
	return el('button', { type: 'button', on: { click }, ...properties }, name && icon(name), label);
}

/** Renames an icon button. */
export function relabel(button, label) {
	button.setAttribute('aria-label', label);
	button.title = label;
}

/** The element with this id; the page's HTML has it. */
export const byId = (id) => document.getElementById(id);

/** A random id. `crypto.randomUUID` exists on secure origins only, and a server on a local network is not one. */
export function randomId() {
	const bytes = crypto.getRandomValues(new Uint8Array(12));
	return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

/** Copies text; `navigator.clipboard` exists on secure origins only, so there is a second way. */
async function copyText(text) {
	if (navigator.clipboard) {
		try {
			await navigator.clipboard.writeText(text);
			return true;
		} catch {
			// Refused, for instance since the page has no focus: the second way may still work.
		}
	}
	const area = el('textarea', { class: 'unseen', value: text, 'aria-hidden': 'true' });
	document.body.append(area);
	area.select();
	const done = document.execCommand('copy');
	area.remove();
	return done;
}

/** A button that copies what `text()` gives, and shows for a moment that it did. */
export function copyButton(label, text) {
	const button = iconButton('copy', label, async () => {
		const done = await copyText(text());
		button.replaceChildren(icon(done ? 'check' : 'close'));
		relabel(button, done ? 'Copied' : 'Copying failed');
		setTimeout(() => {
			button.replaceChildren(icon('copy'));
			relabel(button, label);
		}, 1500);
	});
	return button;
}

/** Offers text as a file to save. */
export function saveFile(name, type, text) {
	const url = URL.createObjectURL(new Blob([text], { type }));
	const link = el('a', { href: url, download: name });
	document.body.append(link);
	link.click();
	link.remove();
	setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

// The words for screen readers: a live region that is given whole paragraphs, never single tokens.

import { byId, el } from './dom.js';

const MAX_KEPT = 12;

/** Has a text read out, after what is being read. */
export function announce(text) {
	const region = byId('announcer');
	region.append(el('p', {}, text));
	while (region.children.length > MAX_KEPT) region.firstChild.remove();
}

/** Has a rendered block of an answer read out. Code is named by its size; it is there to be read in its own place. */
export function announceBlock(node) {
	if (!node.classList.contains('code')) {
		announce(node.textContent);
		return;
	}
	const lines = node.querySelector('code').textContent.split('\n').length;
	announce(`Code, ${lines} ${lines === 1 ? 'line' : 'lines'}.`);
}

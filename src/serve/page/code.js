// A block of code: its language, a button that copies it, colours. It may grow while it is shown.

import { copyButton, el } from './dom.js';
import { highlight } from './highlight.js';

/** Longer code stays plain: colours cost a node per token. */
const MAX_COLOURED = 60_000;

export class CodeBlock {
	constructor({ language, text, closed }) {
		this.language = language;
		this.text = '';
		// Up to here the text is in coloured nodes; the rest is in the last text node.
		this.coloured = 0;
		this.rest = document.createTextNode('');
		this.code = el('code', {}, this.rest);
		const name = language || 'text';
		this.node = el(
			'figure',
			{ class: 'code' },
			el('figcaption', {}, el('span', {}, name), copyButton('Copy code', () => this.text)),
			el('pre', { tabindex: 0, role: 'region', 'aria-label': `Code, ${name}` }, this.code),
		);
		this.update(text, closed);
	}

	/** Shows a longer text: nodes that are there stay. */
	update(text, closed) {
		this.text = text;
		if (this.language && text.length <= MAX_COLOURED) {
			this.coloured = highlight(this.language, text, this.coloured, !closed, (kind, token) => {
				this.rest.before(kind === null ? token : el('span', { class: `code-${kind}` }, token));
			});
		}
		this.rest.data = text.slice(this.coloured);
	}
}

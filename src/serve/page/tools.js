// The tool calls of an answer, and the boxes in which the user gives their results.

import { CodeBlock } from './code.js';
import { el } from './dom.js';
import { icon } from './icons.js';

function pretty(text) {
	try {
		return JSON.stringify(JSON.parse(text), null, 2);
	} catch {
		// Still arriving, or no JSON at all: shown as it is.
		return text;
	}
}

function callCard(call) {
	const code = new CodeBlock({ language: 'json', text: pretty(call.arguments), closed: true });
	return el('section', { class: 'call', 'aria-label': `Tool call ${call.name}` }, el('h3', {}, icon('tool'), call.name), code.node);
}

/** A tool's result, as a message of the chat. */
export function resultCard({ content }, name) {
	return el('details', { class: 'call' }, el('summary', {}, icon('tool'), `Result of ${name}`), el('pre', { tabindex: 0 }, content));
}

export class ToolsView {
	/** `send(results)` is given the texts of all results in the order of the calls. */
	constructor(message, send) {
		this.message = message;
		this.send = send;
		this.node = el('div', { class: 'calls' });
	}

	show() {
		this.node.replaceChildren(...(this.message.toolCalls ?? []).map(callCard));
	}

	/** Shows the boxes for the results below the last answer of a chat. */
	askResults(asks) {
		this.form?.remove();
		if (!asks) return;
		const boxes = this.message.toolCalls.map(({ name }) => {
			const label = `Result of ${name}`;
			return el('textarea', { rows: 2, class: 'mono', 'aria-label': label, placeholder: label });
		});
		this.form = el('form', {
			class: 'results',
			on: {
				submit: (event) => {
					event.preventDefault();
					this.send(boxes.map(({ value }) => value));
				},
			},
		}, ...boxes, el('button', { type: 'submit', class: 'primary' }, boxes.length === 1 ? 'Send result' : 'Send results'));
		this.node.append(this.form);
	}
}

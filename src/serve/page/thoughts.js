// The thoughts before an answer, folded, with the time that they took.

import { el } from './dom.js';
import { duration } from './format.js';
import { GrowingMarkdown } from './growing.js';
import { icon } from './icons.js';
import { markdown } from './markdown.js';

export class ThoughtsView {
	constructor(message) {
		this.message = message;
		this.label = el('span');
		this.body = el('div', { class: 'markdown' });
		this.node = el('details', { class: 'thoughts' }, el('summary', {}, icon('thought'), this.label, icon('down')), this.body);
		this.growing = null;
		// Folded thoughts cost nothing: they are rendered when they are opened.
		this.node.addEventListener('toggle', () => {
			if (!this.node.open) return;
			this.growing = null;
			this.body.replaceChildren(markdown(this.message.thoughts ?? ''));
		});
		this.show(false);
	}

	append(text) {
		if (this.node.open) {
			if (!this.growing) {
				this.body.replaceChildren();
				this.growing = new GrowingMarkdown(this.body);
				this.growing.append(this.message.thoughts);
			} else this.growing.append(text);
		}
		this.show(true);
	}

	end() {
		this.growing?.finish();
		this.growing = null;
		this.show(false);
	}

	show(thinking) {
		const { thoughts, thoughtsMs = 0 } = this.message;
		this.node.hidden = !thoughts;
		this.node.classList.toggle('busy', thinking);
		// While it runs, whole seconds are calmer to read.
		const text = thinking ? `Thinking… ${Math.floor(thoughtsMs / 1000)} s` : `Thought for ${duration(thoughtsMs)}`;
		if (this.label.textContent !== text) this.label.textContent = text;
	}
}

// The box in which a message is written, with its files, the bar of the context and the button that sends or stops.

import { el, iconButton, relabel } from './dom.js';
import { acceptDrops, fileCard, pickFiles, readFiles } from './files.js';
import { count } from './format.js';
import { icon } from './icons.js';

export class Composer {
	/** `send(text, files)` takes a message and says true if it did; `stop()` ends the answer. */
	constructor({ send, stop }) {
		this.sendMessage = send;
		this.stopAnswer = stop;
		this.files = [];
		this.running = false;
		this.input = el('textarea', {
			id: 'prompt', rows: 1, placeholder: 'Write a message', 'aria-label': 'Message', enterkeyhint: 'send',
			on: { input: () => this.#fit(), keydown: (event) => this.#key(event), paste: (event) => this.#paste(event) },
		});
		this.cards = el('ul', { class: 'files', 'aria-label': 'Attached files', hidden: true });
		this.problem = el('p', { class: 'wrong', role: 'alert', hidden: true });
		this.button = iconButton('send', 'Send message', () => this.#press(), { class: 'icon send' });
		this.fill = el('span', { class: 'fill' });
		this.meter = el('div', { class: 'meter', role: 'meter', 'aria-label': 'Context', 'aria-valuemin': 0 }, this.fill);
		this.used = el('span');
		this.context = el('div', { class: 'context', hidden: true }, this.meter, this.used);
		const attach = iconButton('attach', 'Attach text files', async () => this.attach(await pickFiles()));
		this.node = el(
			'form',
			{ class: 'composer', 'aria-label': 'New message', on: { submit: (event) => event.preventDefault() } },
			this.cards,
			this.problem,
			this.input,
			el('div', { class: 'row' }, attach, this.context, this.button),
		);
		acceptDrops((files) => this.attach(files));
	}

	focus() {
		this.input.focus();
	}

	/** While an answer runs the button stops it. */
	setRunning(running) {
		if (running === this.running) return;
		this.running = running;
		this.button.replaceChildren(icon(running ? 'stop' : 'send'));
		this.button.classList.toggle('stop', running);
		relabel(this.button, running ? 'Stop answering' : 'Send message');
	}

	/** The tokens that the chat holds, and the most that it may; null if either is unknown. */
	setContext(used, most) {
		this.context.hidden = used === null || most === null;
		if (this.context.hidden) return;
		const share = Math.min(1, used / most);
		this.fill.style.width = `${100 * share}%`;
		this.meter.classList.toggle('full', share > 0.9);
		this.meter.setAttribute('aria-valuemax', most);
		this.meter.setAttribute('aria-valuenow', used);
		this.used.textContent = `${count(used)} / ${count(most)} tokens`;
	}

	async attach(list) {
		const { files, errors } = await readFiles(list);
		this.files.push(...files);
		this.#showFiles();
		this.say(errors.join(' '));
		if (files.length > 0) this.focus();
	}

	/** Says what is wrong; an empty text takes it away. */
	say(problem) {
		this.problem.textContent = problem;
		this.problem.hidden = problem === '';
	}

	#showFiles() {
		this.cards.replaceChildren(...this.files.map((file) => fileCard(file, () => {
			this.files.splice(this.files.indexOf(file), 1);
			this.#showFiles();
			this.focus();
		})));
		this.cards.hidden = this.files.length === 0;
	}

	#press() {
		if (this.running) this.stopAnswer();
		else this.#send();
	}

	#send() {
		const text = this.input.value.trim();
		if (text === '' && this.files.length === 0) return this.focus();
		this.say('');
		if (!this.sendMessage(text, this.files)) return undefined;
		this.input.value = '';
		this.files = [];
		this.#showFiles();
		return this.#fit();
	}

	#key(event) {
		// Enter also ends the input of a word in scripts that are composed.
		if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
		event.preventDefault();
		if (!this.running) this.#send();
	}

	#paste(event) {
		if (event.clipboardData.files.length === 0) return;
		event.preventDefault();
		this.attach(event.clipboardData.files);
	}

	/** As high as its text; the style sheet sets the limit. */
	#fit() {
		this.input.style.height = 'auto';
		this.input.style.height = `${this.input.scrollHeight}px`;
	}
}

// The view of one message: the user's, an answer, or a tool's result. `actions` is the controller (`chats.js`).

import { announceBlock } from './announce.js';
import { copyButton, el, iconButton, textButton } from './dom.js';
import { fileCard } from './files.js';
import { count, duration, rate } from './format.js';
import { GrowingMarkdown } from './growing.js';
import { icon } from './icons.js';
import { markdown } from './markdown.js';
import { ThoughtsView } from './thoughts.js';
import { TokensView } from './tokens.js';
import { resultCard, ToolsView } from './tools.js';

/** The arrows between the siblings of a message, or nothing if it has none. */
function branches(siblings, message, actions) {
	if (siblings.length < 2) return null;
	const at = siblings.indexOf(message.id);
	const arrow = (name, label, step) => iconButton(name, label, () => actions.choose(siblings[at + step]), {
		disabled: siblings[at + step] === undefined,
	});
	return el(
		'div',
		{ class: 'branches', role: 'group', 'aria-label': 'Versions' },
		arrow('left', 'Previous version', -1),
		el('span', {}, `${at + 1}/${siblings.length}`),
		arrow('right', 'Next version', 1),
	);
}

/** What all messages have: a place for the footer, and a form in which their text is edited. */
class MessageView {
	constructor(message, actions, name, className) {
		this.message = message;
		this.actions = actions;
		this.body = el('div', { class: 'body' });
		this.footer = el('footer');
		const heading = el('h2', { class: 'unseen' }, name);
		this.node = el('article', { class: `message ${className}`, 'aria-label': name }, heading, this.body, this.footer);
	}

	editButton(label, disabled) {
		return iconButton('edit', label, () => this.#edit(label), { class: 'icon edit', disabled });
	}

	#edit(label) {
		if (this.editor) return;
		const box = el('textarea', {
			'aria-label': label, value: this.message.content, rows: 3,
			on: {
				keydown: (event) => {
					if (event.key === 'Escape') {
						event.stopPropagation();
						close();
					} else if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) done();
				},
			},
		});
		const close = () => {
			this.editor.remove();
			this.editor = null;
			this.node.classList.remove('editing');
			this.footer.querySelector('.edit')?.focus();
		};
		const done = () => {
			const text = box.value.trim();
			close();
			this.actions.edit(this.message, text);
		};
		this.editor = el('div', { class: 'editor' }, box, el(
			'div',
			{ class: 'row' },
			el('small', {}, 'A new version; the old one stays.'),
			textButton('Cancel', close),
			textButton('Save', done, { class: 'primary' }),
		));
		this.node.classList.add('editing');
		this.body.after(this.editor);
		box.style.height = `${Math.min(box.scrollHeight + 4, 400)}px`;
		box.focus();
	}
}

export class PromptView extends MessageView {
	constructor(message, actions) {
		super(message, actions, 'You', 'user');
		if (message.content !== '') this.body.append(el('p', { class: 'bubble' }, message.content));
		const cards = (message.files ?? []).map((file) => fileCard(file));
		if (cards.length > 0) this.body.append(el('ul', { class: 'files', 'aria-label': 'Files' }, ...cards));
	}

	refresh({ siblings, running }) {
		const { message, actions } = this;
		this.footer.replaceChildren(...[
			branches(siblings, message, actions),
			copyButton('Copy message', () => message.content),
			this.editButton('Edit message', running),
		].filter(Boolean));
	}
}

export class ResultView extends MessageView {
	constructor(message, actions, name) {
		super(message, actions, `Result of ${name}`, 'tool');
		this.body.append(resultCard(message, name));
	}

	refresh() {}
}

const ENDS = {
	stopped: 'Stopped.',
	length: 'The limit of tokens ended this answer.',
	interrupted: 'The page was left while this answer arrived.',
};

export class AnswerView extends MessageView {
	constructor(message, actions, running) {
		super(message, actions, 'Answer', 'assistant');
		this.thoughtsView = new ThoughtsView(message);
		this.content = el('div', { class: 'markdown' });
		this.tools = new ToolsView(message, (results) => actions.sendResults(message, results));
		this.note = el('div', { class: 'note' });
		this.stats = el('span', { class: 'stats' });
		this.body.append(this.thoughtsView.node, this.content, this.tools.node, this.note);
		if (running) this.begin();
		else this.content.append(markdown(message.content));
		if (message.tokens?.length > 0) this.#addTokens(message.tokens);
		this.tools.show();
	}

	/** The answer begins, or goes on after what is there. */
	begin() {
		this.node.classList.add('busy');
		this.note.replaceChildren();
		this.content.replaceChildren();
		if (!this.message.tokens && this.tokensView) {
			this.tokensView.node.remove();
			this.tokensView = null;
			this.content.hidden = false;
		}
		// Text that is there already is not read out again.
		this.growing = new GrowingMarkdown(this.content, (node) => this.live && announceBlock(node));
		this.live = false;
		this.growing.append(this.message.content);
		this.live = true;
		this.stats.textContent = '';
		this.begun = performance.now();
		this.pieces = 0;
	}

	text(delta) {
		if (this.pieces === 0) this.thoughtsView.show(false);
		this.growing.append(delta);
		this.#pace();
	}

	thoughts(delta) {
		this.thoughtsView.append(delta);
		this.#pace();
	}

	toolCalls() {
		this.tools.show();
		this.#pace();
	}

	tokens(list) {
		this.#addTokens(list);
	}

	end() {
		this.node.classList.remove('busy');
		this.growing.finish();
		this.thoughtsView.end();
		this.tools.show();
	}

	#addTokens(list) {
		if (!this.tokensView) {
			this.tokensView = new TokensView();
			this.content.before(this.tokensView.node);
			this.showTokens(true);
		}
		this.tokensView.append(list);
	}

	/** Shows the tokens in place of the rendered text. */
	showTokens(shown) {
		this.content.hidden = shown;
		this.tokensView.node.hidden = !shown;
		this.tokenButton?.setAttribute('aria-pressed', String(shown));
	}

	/** The speed so far, a few times a second. */
	#pace() {
		const now = performance.now();
		this.pieces += 1;
		if (this.pieces === 1) this.paceBegun = this.paceShown = now;
		if (now - this.paceShown < 400) return;
		this.paceShown = now;
		this.stats.textContent = `≈ ${rate((1000 * (this.pieces - 1)) / (now - this.paceBegun))} tokens/s`;
	}

	#statistics() {
		const { stats = {}, model } = this.message;
		const parts = [];
		if (stats.tokens !== undefined) parts.push([`${count(stats.tokens)} tokens`, 'Tokens of this answer']);
		if (stats.perSecond !== undefined) parts.push([`${rate(stats.perSecond)} tokens/s`, 'Speed of this answer']);
		if (stats.ttft !== undefined) parts.push([`first after ${duration(stats.ttft)}`, 'Time from the request to the first token']);
		if (stats.cached > 0) {
			parts.push([`${count(stats.cached)} of ${count(stats.prompt)} cached`, 'Tokens of the prompt that were computed before']);
		}
		this.stats.replaceChildren(...parts.map(([text, title]) => el('span', { title }, text)));
		if (model) this.stats.append(el('span', { title: 'Model' }, model));
	}

	#trouble(last) {
		const { error, finish, content } = this.message;
		const retry = textButton('Try again', () => this.actions.retry(this.message), {}, 'redo');
		if (error) return el('div', { class: 'error', role: 'alert' }, icon('warning'), el('p', {}, error), last && retry);
		// A page that was closed could not say why the answer ended.
		const ended = ENDS[finish ?? 'interrupted'];
		const empty = finish === 'stop' && content === '' && !this.message.toolCalls && 'The model gave an empty answer.';
		return ended || empty ? el('p', { class: 'ended' }, ended ?? empty) : '';
	}

	refresh({ siblings, last, running, answering }) {
		const { message, actions } = this;
		this.tokenButton = null;
		if (answering) {
			this.note.replaceChildren();
			this.tools.askResults(false);
			return this.footer.replaceChildren(this.stats);
		}
		this.note.replaceChildren(this.#trouble(last));
		const calls = message.toolCalls?.length > 0;
		this.tools.askResults(last && calls && !running);
		if (this.tokensView) {
			this.tokenButton = iconButton('tokens', 'Token probabilities', () => this.showTokens(this.tokensView.node.hidden), {
				'aria-pressed': String(!this.tokensView.node.hidden),
			});
		}
		this.#statistics();
		const more = last && !calls && message.content !== '';
		return this.footer.replaceChildren(...[
			branches(siblings, message, actions),
			copyButton('Copy answer', () => message.content),
			iconButton('redo', 'Regenerate answer', () => actions.regenerate(message), { disabled: running }),
			more && iconButton('play', 'Continue answer', () => actions.goOn(message), { disabled: running }),
			this.editButton('Edit answer', running),
			this.tokenButton,
			this.stats,
		].filter(Boolean));
	}
}

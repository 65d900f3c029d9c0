// The conversation: a view for each message that is shown. A view stays as long as its message does, so that a branch or a new
// message costs only its own views, and a token only its answer's.

import { byId, el, iconButton } from './dom.js';
import { mark } from './icons.js';
import { AnswerView, PromptView, ResultView } from './message.js';
import { shownPath, siblings } from './tree.js';

/** Nearer to the end than this, the view follows the answer. */
const NEAR = 60;

export class Log {
	constructor(actions) {
		this.actions = actions;
		this.log = byId('log');
		this.scroller = byId('main');
		this.views = new Map();
		this.follows = true;
		this.top = 0;
		this.title = el('h1', { class: 'unseen' }, 'New chat');
		this.latest = iconButton('down', 'Go to the end', () => this.toEnd(), { class: 'icon latest', hidden: true });
		this.column = el('div', { class: 'column' });
		this.log.append(this.title, this.column);
		this.scroller.addEventListener('scroll', () => this.#scrolled(), { passive: true });
		const observer = new ResizeObserver(() => this.#grown());
		observer.observe(this.column);
		// The message box grows at the cost of the conversation.
		observer.observe(this.scroller);
	}

	/** The view of a message that is shown, or nothing. */
	viewOf = (id) => this.views.get(id);

	/** Shows a chat; `running` is the message that is being answered, or null. */
	show(chat, running) {
		const path = shownPath(chat);
		// An imported chat may have the id of the one that it replaces.
		if (chat !== this.chat) {
			this.chat = chat;
			this.views.clear();
			this.column.replaceChildren();
			this.toEnd();
		}
		this.title.textContent = chat.title || 'New chat';
		this.log.setAttribute('aria-busy', String(running !== null));
		const shown = new Set(path.map(({ id }) => id));
		for (const [id, view] of this.views) {
			if (shown.has(id)) continue;
			view.node.remove();
			this.views.delete(id);
		}
		for (const message of path) {
			const answering = message === running;
			if (!this.views.has(message.id)) this.#add(chat, message, answering);
			this.views.get(message.id).refresh({
				siblings: siblings(chat, message), last: message === path.at(-1), running: running !== null, answering,
			});
		}
		this.scroller.classList.toggle('empty', path.length === 0);
	}

	/** Shown while a chat has no message. */
	setWelcome(...children) {
		this.welcome?.remove();
		this.welcome = el('div', { class: 'welcome' }, mark(), ...children);
		this.log.prepend(this.welcome);
	}

	toEnd() {
		this.follows = true;
		this.#grown();
	}

	#add(chat, message, answering) {
		let view;
		if (message.role === 'user') view = new PromptView(message, this.actions);
		else if (message.role === 'tool') view = new ResultView(message, this.actions, this.#toolName(chat, message));
		else view = new AnswerView(message, this.actions, answering);
		this.views.set(message.id, view);
		this.column.append(view.node);
	}

	#toolName(chat, message) {
		for (let at = chat.messages[message.parent]; at; at = chat.messages[at.parent]) {
			const call = at.toolCalls?.find(({ id }) => id === message.toolCallId);
			if (call) return call.name;
		}
		return 'a tool';
	}

	#scrolled() {
		const { scrollTop, scrollHeight, clientHeight } = this.scroller;
		const atEnd = scrollHeight - scrollTop - clientHeight < NEAR;
		// Only the reader scrolls up; a distance without that means that the answer grew.
		if (atEnd) this.follows = true;
		else if (scrollTop < this.top) this.follows = false;
		this.top = scrollTop;
		this.latest.hidden = atEnd || this.follows;
	}

	#grown() {
		if (this.follows) this.scroller.scrollTop = this.scroller.scrollHeight;
		else this.#scrolled();
	}
}

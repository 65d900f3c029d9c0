// The list of chats at the side: search, rename, delete, export and import.

import { announce } from './announce.js';
import { readArchive, writeArchive } from './archive.js';
import { askDelete, askText } from './dialogs.js';
import { byId, el, iconButton, saveFile, textButton } from './dom.js';
import { age } from './format.js';
import { pickFiles } from './files.js';
import { icon, mark } from './icons.js';
import { themeButton } from './theme.js';

const SEARCH_MS = 150;

export class History {
	/** `left()` is called when the user has chosen something and a drawer may close. */
	constructor({ chats, store, left }) {
		Object.assign(this, { chats, store, left });
		this.search = el('input', {
			type: 'search', placeholder: 'Search chats', 'aria-label': 'Search chats', 'aria-keyshortcuts': 'Control+K', autocomplete: 'off',
			on: {
				input: () => {
					clearTimeout(this.waiting);
					this.waiting = setTimeout(() => this.show(), SEARCH_MS);
				},
			},
		});
		this.list = el('nav', { 'aria-label': 'Chat history' });
		this.message = el('p', { class: 'hint', role: 'status' });
		byId('history').append(
			el('header', {}, el('a', { class: 'brand', href: '#/' }, mark(), 'rfgraph')),
			textButton('New chat', () => this.#new(), { class: 'new' }, 'plus'),
			el('div', { class: 'search' }, icon('search'), this.search, el('kbd', { 'aria-hidden': 'true' }, 'Ctrl K')),
			this.list,
			this.message,
			el(
				'footer',
				{},
				themeButton(),
				iconButton('upload', 'Import chats', () => this.#import()),
				iconButton('download', 'Export all chats', () => this.#export()),
				iconButton('trash', 'Delete all chats', () => this.#deleteAll()),
			),
		);
		chats.addEventListener('history', () => this.show());
		chats.addEventListener('show', () => this.#mark());
	}

	async show() {
		const order = (this.order ?? 0) + 1;
		this.order = order;
		const words = this.search.value.trim().toLowerCase().split(/\s+/).filter(Boolean);
		const [heads, found] = await Promise.all([this.store.heads(), words.length > 0 ? this.#find(words) : null]);
		// A later call may be done already.
		if (order !== this.order) return;
		const shown = heads.filter(({ id }) => !found || found.has(id)).sort((a, b) => b.updated - a.updated);
		const groups = Map.groupBy ? Map.groupBy(shown, ({ updated }) => age(updated)) : new Map([['Chats', shown]]);
		this.list.replaceChildren(...Array.from(groups, ([name, group]) => {
			const items = group.map((head) => this.#item(head));
			return el('section', { 'aria-label': name }, el('h2', {}, name), el('ul', {}, ...items));
		}));
		const none = words.length > 0 ? 'No chat has these words.' : 'Chats are kept in this browser.';
		if (shown.length === 0) this.list.append(el('p', { class: 'hint' }, none));
		this.#mark();
	}

	/** The chats that hold every word, in the title or in a message of any branch. */
	async #find(words) {
		const has = (chat) => {
			const text = [chat.title, ...Object.values(chat.messages).map(({ content }) => content)].join('\n').toLowerCase();
			return words.every((word) => text.includes(word));
		};
		return new Set(await this.store.find(has));
	}

	#item({ id, title }) {
		const name = title || 'Untitled';
		return el(
			'li',
			{ data: { id } },
			el('a', { href: `#/chat/${id}`, title: name, on: { click: () => this.left() } }, name),
			iconButton('edit', `Rename ${name}`, () => this.#rename(id, name)),
			iconButton('trash', `Delete ${name}`, () => this.#delete(id, name)),
		);
	}

	/** Marks the open chat, and those whose answers run. */
	#mark() {
		for (const item of this.list.querySelectorAll('li')) {
			const link = item.querySelector('a');
			if (item.dataset.id === this.chats.current.id) link.setAttribute('aria-current', 'page');
			else link.removeAttribute('aria-current');
			item.classList.toggle('running', this.chats.runs.has(item.dataset.id));
		}
	}

	#new() {
		this.chats.create();
		this.left();
	}

	async #rename(id, name) {
		const title = await askText({ title: 'Rename chat', label: 'Title', value: name, confirm: 'Rename' });
		if (title) await this.chats.rename(id, title);
	}

	async #delete(id, name) {
		if (!await askDelete('Delete chat', `“${name}” will be gone for good.`, 'Delete')) return;
		await this.chats.delete(id);
		announce('Chat deleted.');
		this.search.focus();
	}

	async #deleteAll() {
		const what = 'Every chat in this browser will be gone for good. An export keeps a copy.';
		if (await askDelete('Delete all chats', what, 'Delete all')) await this.chats.deleteAll();
	}

	async #export() {
		const day = new Date().toISOString().slice(0, 10);
		saveFile(`rfgraph-chats-${day}.json`, 'application/json', writeArchive(await this.store.all()));
	}

	async #import() {
		const said = [];
		for (const file of await pickFiles('.json,application/json')) {
			try {
				const chats = readArchive(await file.text());
				const taken = await this.chats.import(chats);
				said.push(`${taken} of ${chats.length} chats imported${taken < chats.length ? '; the others are here already' : ''}.`);
			} catch (error) {
				said.push(`${file.name}: ${error.message}`);
			}
		}
		this.message.textContent = said.join(' ');
	}
}

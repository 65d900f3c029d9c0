// The side with the history: a column on wide screens, a drawer on phones.

import { byId, iconButton } from './dom.js';

export class Sidebar {
	constructor() {
		this.side = byId('history');
		this.scrim = byId('scrim');
		this.phone = window.matchMedia('(max-width: 760px)');
		this.button = iconButton('menu', 'Chats', () => this.#set(!this.shown), { 'aria-controls': 'history' });
		this.scrim.addEventListener('click', () => this.closeDrawer());
		this.phone.addEventListener('change', () => this.#set(!this.phone.matches));
		this.#set(!this.phone.matches);
	}

	open() {
		if (!this.shown) this.#set(true);
	}

	/** Closes the drawer of a phone; says whether there was one. */
	closeDrawer() {
		if (!this.phone.matches || !this.shown) return false;
		this.#set(false);
		this.button.focus();
		return true;
	}

	/** The user has chosen a chat: a drawer has done its work, and the message box comes next. */
	left() {
		if (this.phone.matches) this.#set(false);
		byId('prompt').focus();
	}

	#set(shown) {
		this.shown = shown;
		const drawer = this.phone.matches && shown;
		this.side.inert = !shown;
		document.body.classList.toggle('side-shown', shown);
		this.scrim.hidden = !drawer;
		byId('stage').inert = drawer;
		this.button.setAttribute('aria-expanded', String(shown));
		if (drawer) this.side.querySelector('a, button')?.focus();
	}
}

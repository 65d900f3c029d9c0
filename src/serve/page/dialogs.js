// Modal dialogs. The browser's <dialog> keeps the focus inside, closes on Escape and gives the focus back.

import { el, iconButton, randomId, textButton } from './dom.js';

/** Opens a dialog that closes by its ✕, by Escape, or by a click beside it; `closed` is called then. */
export function openDialog({ title, body, className = '', closed = () => {} }) {
	const id = `title-${randomId()}`;
	const dialog = el('dialog', { class: className, 'aria-labelledby': id }, el(
		'div',
		{ class: 'sheet' },
		el('header', {}, el('h2', { id }, title), iconButton('close', 'Close', () => dialog.close())),
		body,
	));
	dialog.addEventListener('close', () => {
		dialog.remove();
		closed();
	});
	dialog.addEventListener('pointerdown', (event) => event.target === dialog && dialog.close());
	document.body.append(dialog);
	dialog.showModal();
	return dialog;
}

/** Asks with a form. Resolves to what `read(form)` gives on its button, or to null if the dialog is closed otherwise. */
function ask({ title, body, confirm, danger = false, read = () => true }) {
	return new Promise((resolve) => {
		let answer = null;
		const form = el('form', {
			on: {
				submit: (event) => {
					event.preventDefault();
					answer = read(form);
					dialog.close();
				},
			},
		}, ...body, el(
			'footer',
			{},
			textButton('Cancel', () => dialog.close()),
			el('button', { type: 'submit', class: danger ? 'danger' : 'primary' }, confirm),
		));
		const dialog = openDialog({ title, body: form, className: 'small', closed: () => resolve(answer) });
		form.querySelector('input, button[type=submit]').focus();
	});
}

/** Asks for one line of text. */
export function askText({ title, label, value, confirm }) {
	const input = el('input', { type: 'text', value, maxlength: 200, required: true });
	const shown = ask({ title, confirm, body: [el('label', { class: 'field' }, label, input)], read: () => input.value.trim() });
	input.select();
	return shown;
}

/** Asks before something is deleted: true or null. */
export function askDelete(title, text, confirm) {
	return ask({ title, body: [el('p', {}, text)], confirm, danger: true });
}

/** Asks for the server's key: `{ key, remember }` or null. */
export function askKey(refused) {
	const input = el('input', { type: 'password', autocomplete: 'off', required: true, spellcheck: 'false' });
	const remember = el('input', { type: 'checkbox' });
	return ask({
		title: 'The server asks for a key',
		confirm: 'Use key',
		body: [
			el('p', { class: refused && 'wrong', role: refused && 'alert' }, refused ? 'The server refused that key.'
				: 'It is sent with every request to this server, and to no other.'),
			el('label', { class: 'field' }, 'API key', input),
			el('label', { class: 'check' }, remember, 'Remember it in this browser'),
		],
		read: () => ({ key: input.value.trim(), remember: remember.checked }),
	});
}

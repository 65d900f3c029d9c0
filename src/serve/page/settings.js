// The dialog of the system prompt and the parameters. A change holds at once; nothing has to be saved.

import { openDialog } from './dialogs.js';
import { el, randomId } from './dom.js';
import { PARAMETERS, readSchema, readTools, set } from './parameters.js';

function numberField(parameter, settings, given) {
	const { key, label, hint, min, max, step } = parameter;
	const id = `hint-${randomId()}`;
	const input = el('input', {
		type: 'number', inputmode: 'decimal', min, max, step, value: settings[key],
		placeholder: given === undefined ? 'server’s' : String(given), 'aria-describedby': id,
		// A number that is typed by halves reads as empty; the field is marked then.
		on: { input: () => set(settings, key, input.value) },
	});
	return el('div', { class: 'field' }, el('label', {}, label, input), el('p', { class: 'hint', id }, hint));
}

/** A box of JSON that says what is wrong with its text. */
function jsonField(key, label, placeholder, hint, read, settings) {
	const id = `error-${randomId()}`;
	const error = el('p', { class: 'hint', id, role: 'status' }, hint);
	const check = () => {
		let wrong = '';
		try {
			if (box.value.trim() !== '') read(box.value);
		} catch (problem) {
			wrong = problem.message;
		}
		error.textContent = wrong || hint;
		error.classList.toggle('wrong', wrong !== '');
		box.setAttribute('aria-invalid', String(wrong !== ''));
	};
	const box = el('textarea', {
		class: 'mono', rows: 5, spellcheck: 'false', placeholder, value: settings[key], 'aria-describedby': id,
		on: {
			input: () => {
				set(settings, key, box.value);
				check();
			},
		},
	});
	check();
	return el('div', { class: 'field' }, el('label', {}, label, box), error);
}

/**
 * Opens the dialog. `system` is the prompt of the open chat, which is edited with that of new chats; `given` are the server's
 * values by parameter; `changed(system)` is called when the dialog closes.
 */
export function openSettings({ settings, system, given, changed }) {
	const prompt = el('textarea', {
		rows: 4, value: system, placeholder: 'You are …',
		on: { input: () => set(settings, 'system', prompt.value) },
	});
	const probabilities = el('input', {
		type: 'checkbox', role: 'switch', checked: settings.probabilities,
		on: { change: () => set(settings, 'probabilities', probabilities.checked) },
	});
	const numbers = el('div', { class: 'grid' }, ...PARAMETERS.map((one) => numberField(one, settings, given[one.key])));
	const calls = 'Functions that the model may call; you give the results.';
	const body = el(
		'div',
		{ class: 'settings' },
		el('label', { class: 'field' }, 'System prompt', prompt),
		el('p', { class: 'hint' }, 'For this chat and for new ones.'),
		el('h3', {}, 'Parameters'),
		numbers,
		el('h3', {}, 'Answer'),
		el('label', { class: 'check' }, probabilities, 'Token probabilities'),
		el('p', { class: 'hint' }, 'Shows each token of an answer; point at one to see its rivals.'),
		jsonField('schema', 'JSON schema', '{ "type": "object", … }', 'Answers are JSON of this schema.', readSchema, settings),
		jsonField('tools', 'Tools', '[{ "name": …, "parameters": … }]', calls, readTools, settings),
	);
	openDialog({ title: 'Settings', body, className: 'side', closed: () => changed(prompt.value) });
}

// The dialog of the system prompt and the parameters. A change holds at once; nothing has to be saved.

import { openDialog } from './dialogs.js';
import { el, randomId, textButton } from './dom.js';
import { PARAMETERS, readSchema, readTools, saveSettings } from './parameters.js';

function numberField(parameter, settings, given) {
	const { key, label, hint, min, max, step } = parameter;
	const id = `hint-${randomId()}`;
	const input = el('input', {
		type: 'number', inputmode: 'decimal', min, max, step, value: settings[key],
		placeholder: given === undefined ? 'server’s' : String(given), 'aria-describedby': id,
		on: {
			input: () => {
				// A number that is typed by halves reads as empty; the field says itself that it is wrong.
				settings[key] = input.value;
				saveSettings(settings);
			},
		},
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
				settings[key] = box.value;
				saveSettings(settings);
				check();
			},
		},
	});
	check();
	return el('div', { class: 'field' }, el('label', {}, label, box), error);
}

/**
 * Opens the dialog. `chat` is the open one, whose system prompt is edited with the one of new chats; `given` are the
 * server's values by parameter; `changed(system)` is called when the dialog closes.
 */
export function openSettings({ settings, system, given, changed }) {
	const prompt = el('textarea', {
		rows: 4, value: system, placeholder: 'You are …',
		on: {
			input: () => {
				settings.system = prompt.value;
				saveSettings(settings);
			},
		},
	});
	const probabilities = el('input', {
		type: 'checkbox', role: 'switch', checked: settings.probabilities,
		on: {
			change: () => {
				settings.probabilities = probabilities.checked;
				saveSettings(settings);
			},
		},
	});
	const numbers = el('div', { class: 'grid' }, ...PARAMETERS.map((one) => numberField(one, settings, given[one.key])));
	const reset = textButton('Reset the parameters', () => {
		for (const { key } of PARAMETERS) settings[key] = '';
		saveSettings(settings);
		for (const input of numbers.querySelectorAll('input')) input.value = '';
	});
	const calls = 'Functions that the model may call; you give the results.';
	const body = el(
		'div',
		{ class: 'settings' },
		el('label', { class: 'field' }, 'System prompt', prompt),
		el('p', { class: 'hint' }, 'For this chat and for new ones.'),
		el('h3', {}, 'Parameters'),
		numbers,
		reset,
		el('h3', {}, 'Answer'),
		el('label', { class: 'check' }, probabilities, 'Token probabilities'),
		el('p', { class: 'hint' }, 'Shows each token of an answer; point at one to see its rivals.'),
		jsonField('schema', 'JSON schema', '{ "type": "object", … }', 'Answers are JSON of this schema.', readSchema, settings),
		jsonField('tools', 'Tools', '[{ "name": …, "parameters": … }]', calls, readTools, settings),
	);
	openDialog({ title: 'Settings', body, className: 'side', closed: () => changed(prompt.value) });
}

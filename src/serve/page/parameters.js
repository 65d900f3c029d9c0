// A request's fields beside its messages: one table of the parameters, and the user's settings of them.

import { keep, recall } from './kept.js';

const STORED = 'rfgraph.settings';

/** `key` is the field of the request. An empty setting is left out, and the server's own value holds. */
export const PARAMETERS = [
	{ key: 'temperature', label: 'Temperature', min: 0, max: 2, step: 0.05, hint: '0 always takes the likeliest token' },
	{ key: 'top_p', label: 'Top-p', min: 0, max: 1, step: 0.01, hint: 'likeliest tokens up to this sum of probability' },
	{ key: 'top_k', label: 'Top-k', min: 0, step: 1, hint: 'only so many of the likeliest tokens; 0 is all' },
	{ key: 'min_p', label: 'Min-p', min: 0, max: 1, step: 0.01, hint: 'least probability, as a share of the likeliest one’s' },
	{ key: 'max_tokens', label: 'Max tokens', min: 1, step: 1, hint: 'an answer ends here at the latest' },
	{ key: 'seed', label: 'Seed', min: 0, step: 1, hint: 'the same seed gives the same answer' },
];

/** The most alternatives that are asked for with each token. */
const TOP_LOGPROBS = 5;

export class SettingsError extends Error {}

/** All values are the texts that the user typed, except `probabilities`. */
const DEFAULTS = {
	...Object.fromEntries(PARAMETERS.map(({ key }) => [key, ''])),
	schema: '', tools: '', probabilities: false, system: '', model: '',
};

export function loadSettings() {
	try {
		const stored = JSON.parse(recall(STORED)) ?? {};
		const fits = (key) => typeof stored[key] === typeof DEFAULTS[key];
		return Object.fromEntries(Object.entries(DEFAULTS).map(([key, value]) => [key, fits(key) ? stored[key] : value]));
	} catch {
		return { ...DEFAULTS };
	}
}

/** Changes a setting, and keeps it. */
export function set(settings, key, value) {
	settings[key] = value;
	keep(STORED, JSON.stringify(settings));
}

function readJson(text, what, holds, shape) {
	let value;
	try {
		value = JSON.parse(text);
	} catch (error) {
		throw new SettingsError(`The ${what} in the settings is not JSON: ${error.message}`);
	}
	if (!holds(value)) throw new SettingsError(`The ${what} in the settings must be ${shape}.`);
	return value;
}

const isObject = (value) => typeof value === 'object' && value !== null && !Array.isArray(value);

export const readSchema = (text) => readJson(text, 'JSON schema', isObject, 'an object');

/** Tools as the API has them, or the bare functions. */
export function readTools(text) {
	const holds = (value) => Array.isArray(value) && value.length > 0 && value.every(isObject);
	const tools = readJson(text, 'list of tools', holds, 'a list of objects');
	return tools.map((tool) => (tool.type === undefined ? { type: 'function', function: tool } : tool));
}

/** The fields of the request; throws `SettingsError` for a setting that cannot be sent, so that none is dropped. */
export function requestFields(settings) {
	const fields = {};
	for (const { key, label } of PARAMETERS) {
		if (settings[key] === '') continue;
		fields[key] = Number(settings[key]);
		if (!Number.isFinite(fields[key])) throw new SettingsError(`${label} in the settings is not a number.`);
	}
	if (settings.schema.trim() !== '') {
		const schema = readSchema(settings.schema);
		fields.response_format = { type: 'json_schema', json_schema: { name: 'answer', strict: true, schema } };
	}
	if (settings.tools.trim() !== '') fields.tools = readTools(settings.tools);
	if (settings.probabilities) Object.assign(fields, { logprobs: true, top_logprobs: TOP_LOGPROBS });
	if (settings.model !== '') fields.model = settings.model;
	return fields;
}

// The server's endpoints. Knows HTTP, keys and errors, and nothing of the page.

import { keep, recall } from './kept.js';
import { eventData } from './sse.js';

/** An error that the server gave: its status, and the fields of its error body. */
export class ApiError extends Error {
	constructor(message, { status = 0, type = '', param = null, code = null } = {}) {
		super(message);
		Object.assign(this, { name: 'ApiError', status, type, param, code });
	}
}

/** The server did not answer, or its connection broke. */
export class AwayError extends Error {
	constructor(cause) {
		super('The server does not answer.', { cause });
		this.name = 'AwayError';
	}
}

/** Where the key is kept: for this tab, or for good if the user said so. */
export class Keys {
	static NAME = 'rfgraph.key';

	get = () => recall(Keys.NAME, 'sessionStorage') ?? recall(Keys.NAME) ?? '';

	set(key, remember) {
		keep(Keys.NAME, key, 'sessionStorage');
		keep(Keys.NAME, remember ? key : null);
	}
}

const url = (path) => new URL(path, document.baseURI);

/** The network's failures become `AwayError`; an abort stays what it is. */
function away(error) {
	if (error instanceof ApiError || error.name === 'AbortError') return error;
	return new AwayError(error);
}

async function refusal(response) {
	const text = await response.text().catch(() => '');
	try {
		const { error } = JSON.parse(text);
		return new ApiError(error.message ?? error, { ...error, status: response.status });
	} catch {
		const said = text.trim().slice(0, 300);
		return new ApiError(said || `The server answered ${response.status} ${response.statusText}.`, { status: response.status });
	}
}

export class Api {
	constructor(keys) {
		this.keys = keys;
	}

	/** A response with a good status, or an error. */
	async request(path, init = {}) {
		const key = this.keys.get();
		const headers = { ...init.headers, ...(key && { Authorization: `Bearer ${key}` }) };
		let response;
		try {
			response = await fetch(url(path), { ...init, headers, cache: 'no-store', credentials: 'omit' });
		} catch (error) {
			throw away(error);
		}
		if (!response.ok) throw await refusal(response);
		return response;
	}

	async #body(path, read) {
		const response = await this.request(path, { signal: AbortSignal.timeout(10_000) });
		try {
			return await response[read]();
		} catch (error) {
			throw away(error);
		}
	}

	health = () => this.#body('health', 'text');
	metrics = () => this.#body('metrics', 'text');
	models = () => this.#body('v1/models', 'json');
	/** The properties of the server, or of a model without loading it. */
	props = (model) => this.#body(model ? `props?model=${encodeURIComponent(model)}&autoload=false` : 'props', 'json');

	/** The chunks of a streamed chat completion. An `error` inside the stream is thrown, and so is an early end. */
	async *chat(body, signal) {
		const response = await this.request('v1/chat/completions', {
			method: 'POST',
			headers: { 'Content-Type': 'application/json' },
			body: JSON.stringify(body),
			signal,
		});
		try {
			for await (const data of eventData(response.body)) {
				if (data === '[DONE]') return;
				const chunk = JSON.parse(data);
				if (chunk.error) throw new ApiError(chunk.error.message ?? 'The server broke off the answer.', chunk.error);
				yield chunk;
			}
		} catch (error) {
			if (error instanceof SyntaxError) throw new ApiError('The server sent an event that is not JSON.');
			throw away(error);
		}
		throw new AwayError();
	}
}

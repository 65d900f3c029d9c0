// The state of the server: is it there, which models has it. It is asked again and again: the page recovers, and models come and go.

import { ApiError, AwayError } from './api.js';

const WELL_MS = 10_000;
const ILL_MS = 1500;

/** Sends `change` for its state, and `models` for its models. */
export class Server extends EventTarget {
	/** `wanted` gives the user's choice of a model. */
	constructor(api, wanted) {
		super();
		this.api = api;
		this.wanted = wanted;
		/** 'starting', 'ready', 'loading' (its model), 'locked' (it wants a key), 'away'. */
		this.state = 'starting';
		/** { id, context } of each model. */
		this.models = [];
		this.props = {};
		this.timer = null;
		this.checking = null;
		document.addEventListener('visibilitychange', () => !document.hidden && this.check());
	}

	/** Asks now; an answer that is on its way is waited for. */
	check() {
		this.checking ??= this.#check().finally(() => {
			this.checking = null;
			clearTimeout(this.timer);
			// A hidden page asks no one; it asks as soon as it is shown.
			if (!document.hidden) this.timer = setTimeout(() => this.check(), this.state === 'ready' ? WELL_MS : ILL_MS);
		});
		return this.checking;
	}

	/** A request of the page failed: the state may have changed. */
	async failed(error) {
		const state = { 401: 'locked', 404: 'starting' }[error.status];
		// A server that does not know the model was started anew with another one.
		if (state) this.#become(state);
		if (state || error instanceof AwayError || error.status === 503) await this.check();
	}

	async #check() {
		try {
			await this.api.health();
			// Without another key the models stay closed.
			if (this.state === 'locked' && this.tried === this.api.keys.get()) return;
			await this.#learn();
			this.#become('ready');
		} catch (error) {
			this.#become(this.#stateOf(error));
		}
	}

	#stateOf(error) {
		if (error instanceof AwayError) return 'away';
		if (error instanceof ApiError && error.status === 401) {
			this.tried = this.api.keys.get();
			return 'locked';
		}
		return error.status === 503 ? 'loading' : 'away';
	}

	async #learn() {
		const { data } = await this.api.models();
		const before = JSON.stringify(this.models);
		this.models = (data ?? []).map(({ id, meta, max_model_len: length }) => ({ id, context: meta?.n_ctx ?? length ?? null }));
		// Servers of many models may have no properties; the page does without.
		this.props = await this.api.props(this.models.length > 1 && this.model(this.wanted())).catch((error) => {
			if (error.status === undefined || error.status === 401) throw error;
			return {};
		});
		if (JSON.stringify(this.models) !== before) this.dispatchEvent(new Event('models'));
	}

	/** The model to ask: the user's choice if it is there, the server's own, or the first. */
	model(wanted) {
		const has = (id) => this.models.some((model) => model.id === id);
		if (has(wanted)) return wanted;
		return has(this.props.model_alias) ? this.props.model_alias : this.models[0]?.id ?? '';
	}

	/** How many tokens a chat with this model may hold, or null. */
	context(model) {
		return this.models.find(({ id }) => id === model)?.context ?? this.props.default_generation_settings?.n_ctx ?? null;
	}

	/** The values that the server takes for parameters which a request leaves out. */
	get given() {
		return this.props.default_generation_settings?.params ?? {};
	}

	#become(state) {
		if (state === this.state) return;
		this.state = state;
		this.dispatchEvent(new Event('change'));
	}
}

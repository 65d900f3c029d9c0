// The live view of the server: requests that run and wait, the KV cache, tokens a second. It asks while it is open.

import { count, rate } from './format.js';
import { el } from './dom.js';
import { sparkline } from './icons.js';

const EVERY_MS = 1000;
const KEPT = 60;

/** The sums over all labels of the metrics in Prometheus' text format, by name. */
export function readMetrics(text) {
	const sums = new Map();
	for (const line of text.split('\n')) {
		const found = /^([A-Za-z_:][\w:]*)(?:\{.*\})?\s+([^\s]+)/.exec(line);
		const value = Number(found?.[2]);
		if (found && Number.isFinite(value)) sums.set(found[1], (sums.get(found[1]) ?? 0) + value);
	}
	return sums;
}

const STATES = {
	starting: 'Connecting', ready: 'Ready', loading: 'Loading the model', locked: 'Needs a key', away: 'Away',
};

export class LiveView {
	constructor(server, api) {
		this.server = server;
		this.api = api;
		this.label = el('span', {}, STATES.starting);
		this.button = el('button', {
			type: 'button', class: 'chip', popovertarget: 'live', 'aria-haspopup': 'dialog', title: 'Server activity',
		}, el('span', { class: 'dot' }), this.label);
		this.body = el('div', { class: 'live-body' });
		this.panel = el(
			'div',
			{ id: 'live', popover: 'auto', role: 'dialog', 'aria-label': 'Server activity' },
			el('h2', {}, 'Server activity'),
			this.body,
		);
		this.panel.addEventListener('toggle', ({ newState }) => (newState === 'open' ? this.#open() : clearTimeout(this.timer)));
		server.addEventListener('change', () => this.#state());
		this.#state();
	}

	#state() {
		this.label.textContent = STATES[this.server.state];
		// On a phone the label is not shown; the name stays.
		this.button.setAttribute('aria-label', `${this.label.textContent} – server activity`);
		this.button.dataset.state = this.server.state;
	}

	#open() {
		this.rates = [];
		this.last = null;
		this.#ask();
	}

	async #ask() {
		clearTimeout(this.timer);
		try {
			this.#show(readMetrics(await this.api.metrics()));
		} catch (error) {
			this.last = null;
			const absent = [404, 501].includes(error.status);
			this.body.replaceChildren(el('p', { class: 'hint' }, absent ? 'This server gives no metrics.' : error.message));
			if (!absent) this.server.failed(error);
		}
		clearTimeout(this.timer);
		if (this.panel.matches(':popover-open')) this.timer = setTimeout(() => this.#ask(), EVERY_MS);
	}

	/** The rate follows from two readings of the counter. */
	#rate(tokens) {
		const now = performance.now();
		const { last } = this;
		this.last = { now, tokens };
		if (last && now > last.now) this.rates.push(Math.max(0, (1000 * (tokens - last.tokens)) / (now - last.now)));
		if (this.rates.length > KEPT) this.rates.shift();
		return this.rates.at(-1) ?? 0;
	}

	#show(metrics) {
		const get = (name) => metrics.get(`rfgraph_${name}`);
		const term = (name, value) => [el('dt', {}, name), el('dd', {}, value)];
		const number = (name) => (get(name) === undefined ? '–' : count(get(name)));
		const perSecond = this.#rate(get('generation_tokens_total') ?? 0);
		const used = get('kv_blocks_used') ?? 0;
		const total = get('kv_blocks_total') ?? 0;
		const share = total > 0 ? Math.min(1, used / total) : 0;
		const blocks = total > 0 ? `${count(used)} of ${count(total)} blocks` : '–';
		const fill = el('span', { class: 'fill' });
		fill.style.width = `${100 * share}%`;
		this.body.replaceChildren(
			el(
				'dl',
				{},
				el('div', {}, ...term('Running', number('requests_running'))),
				el('div', {}, ...term('Waiting', number('requests_waiting'))),
				el('div', {}, ...term('Tokens/s', rate(perSecond))),
			),
			sparkline(this.rates, KEPT),
			el('p', { class: 'spread' }, el('span', {}, 'KV cache'), el('span', {}, blocks)),
			el('div', {
				class: 'meter', role: 'meter', 'aria-label': 'KV cache', 'aria-valuemin': 0, 'aria-valuemax': total, 'aria-valuenow': used,
			}, fill),
		);
	}
}

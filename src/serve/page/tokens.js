// An answer as its tokens: each is tinted by its probability, and shows its rivals when it is pointed at or focused.

import { el } from './dom.js';
import { percent } from './format.js';

/** Tints, by the least probability of each; the first has none. */
const LEVELS = [0.9, 0.6, 0.3, 0.1];

const levelOf = (logprob) => {
	const level = LEVELS.findIndex((least) => Math.exp(logprob) >= least);
	return level < 0 ? LEVELS.length : level;
};

/** A token's text with its white space made visible. */
const visible = (text) => text.replaceAll(' ', '·').replaceAll('\n', '↵').replaceAll('\t', '→') || '(empty)';

export class TokensView {
	constructor() {
		this.tokens = [];
		this.tip = el('div', { class: 'tip', role: 'tooltip', id: `tip-${Math.random().toString(36).slice(2)}`, hidden: true });
		this.text = el('div', {
			class: 'tokens', role: 'group', 'aria-label': 'Tokens of the answer; arrow keys go from one to the next',
			on: {
				pointerover: (event) => this.#point(event.target),
				focusin: (event) => this.#point(event.target),
				pointerleave: () => this.#hide(),
				focusout: () => this.#hide(),
				keydown: (event) => this.#key(event),
			},
		});
		this.node = el('div', { class: 'tokens-box' }, this.text, this.tip);
	}

	append(tokens) {
		this.text.append(...tokens.map((token) => {
			this.tokens.push(token);
			return el('span', {
				class: `token p${levelOf(token.logprob)}`, role: 'button', tabindex: this.tokens.length === 1 ? 0 : -1,
				'aria-label': `${token.text}, ${percent(token.logprob)}`, data: { index: this.tokens.length - 1 },
			}, token.text);
		}));
	}

	#point(target) {
		if (target.dataset?.index === undefined) return this.#hide();
		const token = this.tokens[target.dataset.index];
		const rivals = token.top.some(({ text }) => text === token.text) ? token.top : [token, ...token.top];
		this.tip.replaceChildren(...rivals.map(({ text, logprob }) => {
			const fill = el('span', { class: 'fill' });
			fill.style.width = `${100 * Math.exp(logprob)}%`;
			const share = el('span', { class: 'share' }, fill);
			const chosen = text === token.text ? ' chosen' : '';
			return el('div', { class: `rival${chosen}` }, el('code', {}, visible(text)), share, el('span', {}, percent(logprob)));
		}));
		this.tip.hidden = false;
		// Below the token, and inside the box.
		const [box] = target.getClientRects();
		const frame = this.node.getBoundingClientRect();
		const left = Math.max(0, Math.min(box.left - frame.left, frame.width - this.tip.offsetWidth));
		this.tip.style.left = `${left}px`;
		this.tip.style.top = `${box.bottom - frame.top + 6}px`;
		return target.setAttribute('aria-describedby', this.tip.id);
	}

	#hide() {
		this.tip.hidden = true;
	}

	#key(event) {
		if (event.key === 'Escape' && !this.tip.hidden) {
			event.stopPropagation();
			return this.#hide();
		}
		const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
		const next = step && this.text.children[Number(event.target.dataset.index) + step];
		if (!next) return undefined;
		event.preventDefault();
		event.target.tabIndex = -1;
		next.tabIndex = 0;
		return next.focus();
	}
}

// Markdown that grows while an answer arrives. Blocks that can no longer change keep their nodes; only the last one is
// rendered again, once a frame at most, so that the cost of a token does not depend on the length of the answer.

import { CodeBlock } from './code.js';
import { parse, render, splitLines } from './markdown.js';

/** A frame may spend this share of the time on rendering; a long last block is rendered less often. */
const SHARE = 0.25;

export class GrowingMarkdown {
	/** Renders into `root`; `onBlock(node)` is called for each block once it is final. */
	constructor(root, onBlock = () => {}) {
		this.root = root;
		this.onBlock = onBlock;
		// The text from the first line that can still change on, and its nodes.
		this.tail = '';
		this.nodes = [];
		this.code = null;
		this.waits = false;
		this.cost = 0;
	}

	append(text) {
		this.tail += text;
		if (this.waits) return;
		this.waits = true;
		// A hidden page has no frames, and its text must not pile up.
		const soon = document.hidden ? (f) => setTimeout(f, 250) : requestAnimationFrame;
		setTimeout(() => soon(() => this.waits && this.show(false)), this.cost / SHARE);
	}

	/** Renders what is left. */
	finish() {
		this.show(true);
	}

	show(ended) {
		this.waits = false;
		const begin = performance.now();
		const lines = splitLines(this.tail);
		let blocks = parse(this.tail);
		// A block is final once the next one has begun with a whole line: "2" may still become the item "2. …" of a list.
		let final = Math.max(0, blocks.length - 1);
		if (final > 0 && blocks[final].begin >= lines.length - 1) final -= 1;
		if (ended) final = blocks.length;
		if (final > 0) {
			this.#settle(blocks.slice(0, final));
			this.tail = ended ? '' : lines.slice(blocks[final].begin).join('\n');
			blocks = blocks.slice(final);
		}
		if (!ended || blocks.length > 0) this.#draw(blocks);
		this.cost = performance.now() - begin;
	}

	/** The open nodes are replaced by those of the final blocks. */
	#settle(blocks) {
		const [first] = blocks;
		let begin = 0;
		if (this.code && first.type === 'code' && first.language === this.code.language) {
			this.code.update(first.text, true);
			begin = 1;
			this.onBlock(this.code.node);
		}
		for (const node of this.nodes.slice(begin)) node.remove();
		for (const block of blocks.slice(begin)) {
			const node = render(block);
			this.root.append(node);
			this.onBlock(node);
		}
		this.nodes = [];
		this.code = null;
	}

	#draw(blocks) {
		const [first] = blocks;
		if (this.code && blocks.length === 1 && first.type === 'code' && first.text.startsWith(this.code.text)
			&& first.language === this.code.language && !first.closed) {
			this.code.update(first.text, false);
			return;
		}
		for (const node of this.nodes) node.remove();
		this.code = blocks.length === 1 && first.type === 'code' && !first.closed ? new CodeBlock(first) : null;
		this.nodes = this.code ? [this.code.node] : blocks.map(render);
		this.root.append(...this.nodes);
	}
}

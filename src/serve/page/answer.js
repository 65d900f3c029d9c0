// One answer as it arrives: reads the stream into a message, and tells a listener what came.

/** A token with its rivals, out of the API's form. */
function readToken({ token, logprob, bytes, top_logprobs: top }) {
	const one = (from) => {
		// Half of a character has no text; its bytes are shown.
		const half = from.token.includes('\ufffd') && from.bytes;
		return half ? from.bytes.map((byte) => `\\x${byte.toString(16).padStart(2, '0')}`).join('') : from.token;
	};
	return {
		text: one({ token, bytes }),
		logprob: Math.max(-1000, logprob ?? -1000),
		top: (top ?? []).map((from) => ({ text: one(from), logprob: Math.max(-1000, from.logprob ?? -1000) })),
	};
}

class Reading {
	constructor(message, listener) {
		this.message = message;
		this.listener = listener;
		this.begin = performance.now();
		this.first = null;
		this.chunks = 0;
		this.thoughtsBegin = null;
		// The tokens of an answer are all there or not at all; one that goes on may have begun without.
		this.takesTokens = message.content === '' || message.tokens !== undefined;
	}

	/** Time since the request, and in milliseconds how long tokens have been arriving. */
	arrived() {
		this.first ??= performance.now();
		this.chunks += 1;
	}

	thoughts(text) {
		this.thoughtsBegin ??= performance.now() - (this.message.thoughtsMs ?? 0);
		this.message.thoughts = (this.message.thoughts ?? '') + text;
		this.message.thoughtsMs = performance.now() - this.thoughtsBegin;
		this.listener.thoughts(text);
	}

	toolCall({ index = 0, id, function: called = {} }) {
		this.message.toolCalls ??= [];
		const calls = this.message.toolCalls;
		while (calls.length <= Math.min(index, 127)) calls.push({ id: '', name: '', arguments: '' });
		const call = calls[Math.min(index, 127)];
		if (id) call.id = id;
		call.name += called.name ?? '';
		call.arguments += called.arguments ?? '';
		this.listener.toolCalls();
	}

	choice({ delta = {}, logprobs, finish_reason: finish }) {
		const thoughts = delta.reasoning_content ?? delta.reasoning;
		if (thoughts || delta.content || delta.tool_calls) this.arrived();
		if (thoughts) this.thoughts(thoughts);
		if (delta.content) {
			// The thoughts end with the first word of the answer.
			this.message.content += delta.content;
			this.listener.text(delta.content);
		}
		for (const call of delta.tool_calls ?? []) this.toolCall(call);
		if (logprobs?.content?.length > 0 && !thoughts && this.takesTokens) {
			this.message.tokens ??= [];
			const tokens = logprobs.content.map(readToken);
			this.message.tokens.push(...tokens);
			this.listener.tokens(tokens);
		}
		if (finish) this.message.finish = finish;
	}

	chunk({ choices, usage, timings, model }) {
		if (model) this.message.model = model;
		for (const choice of choices ?? []) this.choice(choice);
		if (usage) {
			this.usage = usage;
			this.timings = timings;
		}
		if (timings) this.timings = timings;
	}

	/** What was measured: here by the clock, and there by the server where it says so. */
	stats() {
		const stats = {};
		if (this.first === null) return stats;
		stats.ttft = this.first - this.begin;
		const seconds = (performance.now() - this.first) / 1000;
		const tokens = this.usage?.completion_tokens ?? this.timings?.predicted_n;
		const measured = this.timings?.predicted_per_second;
		if (tokens !== undefined) stats.tokens = tokens;
		if (Number.isFinite(measured) && measured > 0) stats.perSecond = measured;
		// Without the server's numbers a chunk counts as a token, which it is on most servers.
		else if (seconds > 0 && this.chunks > 1) stats.perSecond = ((tokens ?? this.chunks) - 1) / seconds;
		if (this.usage) {
			stats.prompt = this.usage.prompt_tokens;
			stats.used = this.usage.prompt_tokens + this.usage.completion_tokens;
			stats.cached = this.usage.prompt_tokens_details?.cached_tokens ?? this.timings?.cache_n ?? 0;
		}
		return stats;
	}
}

/**
 * Reads the answer to `body` into `message`. `listener` has `text(delta)`, `thoughts(delta)`, `tokens(list)`, `toolCalls()`.
 * Afterwards `message.finish` says why it ended, or `message.error` what went wrong; an abort is `finish: 'stopped'`.
 */
export async function readAnswer(api, body, message, listener, signal) {
	const reading = new Reading(message, listener);
	delete message.error;
	delete message.finish;
	let error = null;
	try {
		for await (const chunk of api.chat(body, signal)) reading.chunk(chunk);
		message.finish ??= 'stop';
	} catch (problem) {
		if (problem.name === 'AbortError') message.finish = 'stopped';
		else {
			error = problem;
			message.finish = 'error';
			message.error = problem.message;
		}
	}
	message.stats = reading.stats();
	return error;
}

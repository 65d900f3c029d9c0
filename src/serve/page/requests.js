// The body of a request: a chat's messages in the form of the API.

import { requestFields } from './parameters.js';

/** A fence of backticks that `text` does not hold. */
function fenceFor(text) {
	const longest = Math.max(2, ...Array.from(text.matchAll(/`{3,}/g), ([run]) => run.length));
	return '`'.repeat(longest + 1);
}

function fileText({ name, text }) {
	const fence = fenceFor(text);
	const type = /\.([A-Za-z0-9]{1,8})$/.exec(name)?.[1] ?? '';
	return `File "${name}":\n${fence}${type}\n${text}${text.endsWith('\n') ? '' : '\n'}${fence}`;
}

function apiMessage({ role, content, files, thoughts, toolCalls, toolCallId }) {
	if (role === 'user') return { role, content: [...(files ?? []).map(fileText), content].filter(Boolean).join('\n\n') };
	if (role === 'tool') return { role, content, tool_call_id: toolCallId };
	const message = { role, content };
	if (thoughts) message.reasoning_content = thoughts;
	if (toolCalls?.length > 0) {
		message.tool_calls = toolCalls.map((call) => ({
			id: call.id, type: 'function', function: { name: call.name, arguments: call.arguments },
		}));
	}
	return message;
}

/** The request that answers the messages of `path`, or with `continues` goes on with the last of them. */
export function requestBody(system, path, settings, continues) {
	const messages = path.map(apiMessage);
	if (system.trim() !== '') messages.unshift({ role: 'system', content: system });
	return {
		...requestFields(settings),
		messages,
		stream: true,
		stream_options: { include_usage: true },
		...(continues && { continue_final_message: true, add_generation_prompt: false }),
	};
}

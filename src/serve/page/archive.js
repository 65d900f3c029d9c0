// Exported chats: writing the file, and reading one that may come from anywhere.

const FORMAT = 'rfgraph-chats';
const ROLES = ['user', 'assistant', 'tool'];
const MAX_MESSAGES = 100_000;

export const writeArchive = (chats) => JSON.stringify({ format: FORMAT, version: 1, chats }, null, 1);

class BadArchive extends Error {}

function need(holds, what) {
	if (!holds) throw new BadArchive(`This is not a file of exported chats: ${what}.`);
}

const isText = (value) => typeof value === 'string';
const isId = (value) => isText(value) && /^[A-Za-z0-9-]{1,64}$/.test(value);
const isTime = (value) => Number.isFinite(value) && value >= 0;
const isList = (value, holds) => Array.isArray(value) && value.every(holds);
const isNumber = (value) => Number.isFinite(value);

/** Optional fields of a message, and their shape; others are not read. */
const FIELDS = {
	files: (value) => isList(value, (file) => isText(file?.name) && isText(file?.text)),
	thoughts: isText,
	thoughtsMs: isNumber,
	toolCalls: (value) => isList(value, (call) => isText(call?.id) && isText(call?.name) && isText(call?.arguments)),
	toolCallId: isText,
	tokens: (value) => isList(value, (token) => isText(token?.text) && isNumber(token?.logprob)
		&& isList(token?.top, (other) => isText(other?.text) && isNumber(other?.logprob))),
	finish: isText,
	error: isText,
	model: isText,
	stats: (value) => typeof value === 'object' && value !== null && Object.values(value).every(isNumber),
};

function readMessage(id, from, ids) {
	const where = `message ${id}`;
	need(isId(id) && typeof from === 'object' && from !== null && from.id === id, `${where} has no fitting id`);
	need(ROLES.includes(from.role) && isText(from.content), `${where} lacks a role or a text`);
	need(from.parent === null || ids.has(from.parent), `the parent of ${where} is missing`);
	need(isList(from.children, (child) => ids.has(child)), `an answer to ${where} is missing`);
	need(from.chosen === null || from.children.includes(from.chosen), `${where} shows an answer that is missing`);
	const message = {
		id, parent: from.parent, role: from.role, content: from.content, created: isTime(from.created) ? from.created : 0,
		children: [...from.children], chosen: from.chosen,
	};
	for (const [name, holds] of Object.entries(FIELDS)) {
		if (from[name] === undefined || from[name] === null) continue;
		need(holds(from[name]), `${name} of ${where} has another shape`);
		message[name] = structuredClone(from[name]);
	}
	return message;
}

/** Every message is reached from the top exactly once, by the parent that it names. */
function checkTree(chat) {
	const seen = new Set();
	const open = chat.children.map((id) => [null, id]);
	while (open.length > 0) {
		const [parent, id] = open.pop();
		need(!seen.has(id) && chat.messages[id].parent === parent, `the messages of "${chat.title}" form no tree`);
		seen.add(id);
		open.push(...chat.messages[id].children.map((child) => [id, child]));
	}
	need(seen.size === Object.keys(chat.messages).length, `a message of "${chat.title}" belongs nowhere`);
}

function readChat(from) {
	need(typeof from === 'object' && from !== null && isId(from.id), 'a chat lacks its id');
	need(isText(from.title) && isText(from.system), `chat ${from.id} lacks a title or a system prompt`);
	need(isTime(from.created) && isTime(from.updated), `chat ${from.id} lacks its times`);
	need(typeof from.messages === 'object' && from.messages !== null, `chat ${from.id} lacks its messages`);
	const ids = new Set(Object.keys(from.messages));
	need(ids.size <= MAX_MESSAGES, `chat ${from.id} has more than ${MAX_MESSAGES} messages`);
	need(isList(from.children, (id) => ids.has(id)), `a first message of chat ${from.id} is missing`);
	need(from.chosen === null || from.children.includes(from.chosen), `chat ${from.id} shows a message that is missing`);
	const messages = {};
	for (const id of ids) messages[id] = readMessage(id, from.messages[id], ids);
	const { id, title, system, created, updated, chosen } = from;
	const chat = { id, title: title.slice(0, 200), system, created, updated, children: [...from.children], chosen, messages };
	checkTree(chat);
	return chat;
}

/** The chats of an exported file; an `Error` says what is wrong with it. */
export function readArchive(text) {
	let archive;
	try {
		archive = JSON.parse(text);
	} catch (error) {
		throw new BadArchive(`This file is not JSON: ${error.message}.`);
	}
	need(archive?.format === FORMAT && archive.version === 1 && Array.isArray(archive.chats), 'its format is another one');
	return archive.chats.map(readChat);
}

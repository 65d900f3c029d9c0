// A chat is a tree of messages: an edited message or a second answer is a sibling of the first, and every message
// remembers which of its children is shown. Plain data, as it is stored and exported.
//
// chat:    { id, title, created, updated, system, children, chosen, messages: { id → message } }
// message: { id, parent, role, content, created, children, chosen, … }, where `children` are ids in their order and
//          `chosen` is one of them or null. The chat itself stands in for the parent of the first messages.

import { randomId } from './dom.js';

export function createChat(system, now = Date.now()) {
	return { id: randomId(), title: '', created: now, updated: now, system, children: [], chosen: null, messages: {} };
}

const parentOf = (chat, message) => (message.parent === null ? chat : chat.messages[message.parent]);

/** Adds a message below `parent` (an id, or null for the top) and shows it. */
export function addMessage(chat, parent, fields) {
	const message = { id: randomId(), parent, created: Date.now(), children: [], chosen: null, ...fields };
	chat.messages[message.id] = message;
	const above = parentOf(chat, message);
	above.children.push(message.id);
	above.chosen = message.id;
	return message;
}

/** The messages that are shown, from the first to the last. */
export function shownPath(chat) {
	const path = [];
	for (let at = chat; at.chosen !== null; at = path.at(-1)) path.push(chat.messages[at.chosen]);
	return path;
}

/** The shown messages up to and with `id`. */
export function pathTo(chat, id) {
	const path = [];
	for (let at = id; at !== null; at = chat.messages[at].parent) path.unshift(chat.messages[at]);
	return path;
}

/** The ids that take turns in the place of a message, itself among them. */
export const siblings = (chat, message) => parentOf(chat, message).children;

/** Shows a message in place of its siblings. */
export function choose(chat, id) {
	parentOf(chat, chat.messages[id]).chosen = id;
}

/** A title out of the first message. */
export function titleOf(chat) {
	const first = chat.children.length > 0 ? chat.messages[chat.children[0]] : null;
	const text = first?.content.trim() || first?.files?.[0]?.name || '';
	const line = text.split('\n', 1)[0];
	return line.length > 60 ? `${line.slice(0, 59).trimEnd()}…` : line;
}

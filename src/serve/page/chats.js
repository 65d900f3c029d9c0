// The controller: opens chats, sends messages, and lets answers run, one in each chat at most; they go on while another chat is
// shown. It knows the store, the server's API and the tree of messages, and the views only by the listener that an answer has.

import { announce } from './announce.js';
import { readAnswer } from './answer.js';
import { randomId } from './dom.js';
import { SettingsError } from './parameters.js';
import { requestBody } from './requests.js';
import { addMessage, choose, createChat, pathTo, shownPath, titleOf } from './tree.js';

/** A running answer is stored this often: what a page begins to store when it is closed is not stored. */
const SAVE_MS = 1000;

/** Sends `show` when the open chat or its messages change, `history` when the list of chats does, and `unsaved` if one
 * cannot be stored. */
export class Chats extends EventTarget {
	constructor({ api, store, server, settings }) {
		super();
		Object.assign(this, { api, store, server, settings });
		this.current = createChat(settings.system);
		// By the id of a chat: its answer that runs.
		this.runs = new Map();
		this.viewOf = () => undefined;
		// Chats that were deleted while an answer ran; they must not be stored again.
		this.gone = new WeakSet();
	}

	/** The message of the open chat that is being answered, or null. */
	get running() {
		return this.runs.get(this.current.id)?.message ?? null;
	}

	#tell(what) {
		this.dispatchEvent(new Event(what));
	}

	/** Opens a stored chat; says false if there is none with this id. */
	async open(id) {
		if (id === this.current.id) return true;
		const chat = this.runs.get(id)?.chat ?? await this.store.get(id);
		if (!chat) return false;
		this.current = chat;
		this.#tell('show');
		return true;
	}

	/** An empty chat; it is stored with its first message. */
	create() {
		this.current = createChat(this.settings.system);
		this.#tell('show');
	}

	async #store(chat) {
		if (this.gone.has(chat)) return;
		try {
			await this.store.put(chat);
		} catch (error) {
			this.dispatchEvent(new CustomEvent('unsaved', { detail: error.message }));
		}
	}

	async #save(chat) {
		await this.#store(chat);
		this.#tell('history');
	}

	#touch(chat) {
		chat.updated = Date.now();
		chat.title ||= titleOf(chat);
	}

	/** Sends a message of the user; false while an answer runs. */
	send(content, files) {
		if (this.running) return false;
		const chat = this.current;
		const parent = shownPath(chat).at(-1)?.id ?? null;
		const message = addMessage(chat, parent, { role: 'user', content, ...(files.length > 0 && { files }) });
		this.#touch(chat);
		this.#answer(chat, message.id);
		return true;
	}

	/** An edited message is a sibling of the old one; the user's is answered, an answer is taken as it is. */
	edit(message, content) {
		if (this.running || content === message.content) return;
		const chat = this.current;
		const { role, parent, files } = message;
		const kept = role === 'user' ? { files } : { finish: 'edited' };
		const edited = addMessage(chat, parent, { role, content, ...kept });
		this.#touch(chat);
		if (role === 'user') this.#answer(chat, edited.id);
		else this.#shown(chat);
	}

	/** Another answer to the same message. */
	regenerate(message) {
		if (!this.running) this.#answer(this.current, message.parent);
	}

	/** After an error: an empty answer is asked for again in its place, a half one stays as a version. */
	retry(message) {
		if (this.running) return;
		if (message.content !== '' || message.thoughts || message.toolCalls) return void this.regenerate(message);
		this.#run(this.current, message, false);
	}

	goOn(message) {
		if (!this.running) this.#run(this.current, message, true);
	}

	sendResults(message, results) {
		if (this.running) return;
		let parent = message.id;
		message.toolCalls.forEach((call, index) => {
			// Some models give their calls no id; the result needs one.
			call.id ||= `call_${randomId()}`;
			parent = addMessage(this.current, parent, { role: 'tool', content: results[index], toolCallId: call.id }).id;
		});
		this.#answer(this.current, parent);
	}

	choose(id) {
		if (this.running) return;
		choose(this.current, id);
		this.#shown(this.current);
	}

	setSystem(system) {
		if (system === this.current.system) return;
		this.current.system = system;
		if (this.current.children.length > 0) this.#save(this.current);
	}

	stop() {
		this.runs.get(this.current.id)?.controller.abort();
	}

	#shown(chat) {
		this.#save(chat);
		this.#tell('show');
	}

	#answer(chat, parent) {
		this.#run(chat, addMessage(chat, parent, { role: 'assistant', content: '' }), false);
	}

	/** The listener hands everything to the view, if the message is shown, and stores it now and then. */
	#listener(chat, message) {
		let saved = -Infinity;
		const call = (name, ...values) => {
			this.viewOf(message.id)?.[name](...values);
			if (performance.now() - saved < SAVE_MS) return;
			saved = performance.now();
			this.#store(chat);
		};
		return Object.fromEntries(['text', 'thoughts', 'tokens', 'toolCalls'].map((name) => [name, (...values) => call(name, ...values)]));
	}

	async #run(chat, message, continues) {
		const controller = new AbortController();
		this.runs.set(chat.id, { chat, message, controller });
		if (continues && !this.settings.probabilities) delete message.tokens;
		this.viewOf(message.id)?.begin();
		this.#shown(chat);
		announce('Answering.');
		let error;
		try {
			const settings = { ...this.settings, model: this.server.model(this.settings.model) };
			const body = requestBody(chat.system, pathTo(chat, continues ? message.id : message.parent), settings, continues);
			error = await readAnswer(this.api, body, message, this.#listener(chat, message), controller.signal);
		} catch (problem) {
			if (!(problem instanceof SettingsError)) throw problem;
			Object.assign(message, { finish: 'error', error: problem.message });
		} finally {
			this.runs.delete(chat.id);
			this.viewOf(message.id)?.end();
			this.#touch(chat);
			this.#save(chat);
			if (chat === this.current) this.#tell('show');
		}
		if (error) this.server.failed(error);
		else announce(message.finish === 'stopped' ? 'Stopped.' : 'The answer is complete.');
	}

	// The history.

	async rename(id, title) {
		const chat = id === this.current.id ? this.current : this.runs.get(id)?.chat ?? await this.store.get(id);
		// Another tab may have deleted it.
		if (!chat) return;
		chat.title = title;
		await this.#save(chat);
		if (chat === this.current) this.#tell('show');
	}

	#end({ chat, controller }) {
		this.gone.add(chat);
		controller.abort();
	}

	async delete(id) {
		if (this.runs.has(id)) this.#end(this.runs.get(id));
		await this.store.delete(id);
		if (id === this.current.id) this.create();
		this.#tell('history');
	}

	async deleteAll() {
		this.runs.forEach((run) => this.#end(run));
		await this.store.clear();
		this.create();
		this.#tell('history');
	}

	/** Stores imported chats; of two with one id the later stays. Says how many came in. */
	async import(chats) {
		let taken = 0;
		for (const chat of chats) {
			const have = await this.store.get(chat.id);
			if (this.runs.has(chat.id) || have?.updated >= chat.updated) continue;
			await this.store.put(chat);
			taken += 1;
			if (chat.id === this.current.id) {
				this.current = chat;
				this.#tell('show');
			}
		}
		this.#tell('history');
		return taken;
	}
}

// The chats of this browser, in IndexedDB. Two tables, so that the history is listed without reading every message:
// `heads` holds { id, title, created, updated }, `chats` the whole chats.

const DATABASE = 'rfgraph';
const TABLES = ['heads', 'chats'];

const headOf = ({ id, title, created, updated }) => ({ id, title, created, updated });

function settled(request) {
	return new Promise((resolve, reject) => {
		request.onsuccess = () => resolve(request.result);
		request.onerror = () => reject(request.error);
	});
}

function openDatabase() {
	const request = indexedDB.open(DATABASE, 1);
	request.onupgradeneeded = () => {
		for (const table of TABLES) request.result.createObjectStore(table, { keyPath: 'id' });
	};
	return settled(request);
}

/** Does `work` on both tables in one transaction, and waits until it is on disk. */
async function transact(database, mode, work) {
	const transaction = database.transaction(TABLES, mode);
	const done = new Promise((resolve, reject) => {
		transaction.oncomplete = resolve;
		transaction.onabort = () => reject(transaction.error);
	});
	const [heads, chats] = TABLES.map((table) => transaction.objectStore(table));
	const result = await work(heads, chats);
	await done;
	return result;
}

class Disk {
	constructor(database) {
		this.database = database;
		this.lasting = true;
	}

	heads = () => transact(this.database, 'readonly', (heads) => settled(heads.getAll()));
	get = (id) => transact(this.database, 'readonly', (_, chats) => settled(chats.get(id)));
	all = () => transact(this.database, 'readonly', (_, chats) => settled(chats.getAll()));

	put(chat) {
		return transact(this.database, 'readwrite', (heads, chats) => {
			heads.put(headOf(chat));
			chats.put(chat);
		});
	}

	delete(id) {
		return transact(this.database, 'readwrite', (heads, chats) => {
			heads.delete(id);
			chats.delete(id);
		});
	}

	clear() {
		return transact(this.database, 'readwrite', (heads, chats) => {
			heads.clear();
			chats.clear();
		});
	}

	/** The ids of the chats for which `holds` is true, read one at a time. */
	find(holds) {
		return transact(this.database, 'readonly', (_, chats) => new Promise((resolve, reject) => {
			const found = [];
			const request = chats.openCursor();
			request.onerror = () => reject(request.error);
			request.onsuccess = () => {
				const cursor = request.result;
				if (!cursor) return resolve(found);
				if (holds(cursor.value)) found.push(cursor.value.id);
				cursor.continue();
				return undefined;
			};
		}));
	}
}

/** Used where the browser refuses a database, as some private windows do. */
class Memory {
	constructor() {
		this.chats = new Map();
		this.lasting = false;
	}

	heads = async () => Array.from(this.chats.values(), headOf);
	get = async (id) => structuredClone(this.chats.get(id));
	all = async () => structuredClone([...this.chats.values()]);
	put = async (chat) => void this.chats.set(chat.id, structuredClone(chat));
	delete = async (id) => void this.chats.delete(id);
	clear = async () => this.chats.clear();
	find = async (holds) => [...this.chats.values()].filter(holds).map(({ id }) => id);
}

/** The store; `lasting` is false if chats end with the page. */
export async function openStore() {
	try {
		return new Disk(await openDatabase());
	} catch {
		return new Memory();
	}
}

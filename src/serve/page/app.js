// The page: makes its parts and joins them.

import { Api, Keys } from './api.js';
import { announce } from './announce.js';
import { Chats } from './chats.js';
import { Composer } from './composer.js';
import { askKey } from './dialogs.js';
import { byId, el, iconButton, textButton } from './dom.js';
import { count } from './format.js';
import { History } from './history.js';
import { icon } from './icons.js';
import { LiveView } from './live.js';
import { Log } from './log.js';
import { loadSettings, set } from './parameters.js';
import { Server } from './server.js';
import { openSettings } from './settings.js';
import { Sidebar } from './sidebar.js';
import { openStore } from './store.js';
import { shownPath } from './tree.js';

const keys = new Keys();
const api = new Api(keys);
const server = new Server(api, () => settings.model);
const settings = loadSettings();
const store = await openStore();
const chats = new Chats({ api, store, server, settings });
const sidebar = new Sidebar();
const log = new Log(chats);
const composer = new Composer({ send: (text, files) => send(text, files), stop: () => chats.stop() });
const history = new History({ chats, store, left: () => sidebar.left() });
const live = new LiveView(server, api);
const picker = el('select', { 'aria-label': 'Model', on: { change: () => choose(picker.value) } });
chats.viewOf = log.viewOf;

function send(text, files) {
	if (server.state === 'away') {
		composer.say('The server is away. Your message stays here until it is back.');
		return false;
	}
	log.toEnd();
	return chats.send(text, files);
}

function choose(model) {
	set(settings, 'model', model);
	server.check();
	showChat();
	showWelcome();
}

/** The tokens that the chat held after its last answer. */
function usedTokens(chat) {
	const last = shownPath(chat).findLast(({ stats }) => stats?.used !== undefined);
	return last ? last.stats.used : null;
}

function showChat() {
	const { current: chat, running } = chats;
	log.show(chat, running);
	composer.setRunning(running !== null);
	composer.setContext(usedTokens(chat), server.context(server.model(settings.model)));
	document.title = chat.title ? `${chat.title} – rfgraph` : 'rfgraph';
}

/** The address follows the chat that is shown. */
function showAddress() {
	const { id, children } = chats.current;
	const hash = children.length > 0 ? `#/chat/${id}` : '#/';
	if (location.hash !== hash && (location.hash || '#/') !== hash) window.history.pushState(null, '', hash);
}

const HINTS = [['Enter', 'sends'], ['Shift Enter', 'new line'], ['Esc', 'stops'], ['Ctrl K', 'search']];

function showWelcome() {
	const model = server.model(settings.model);
	const most = server.context(model);
	const room = most === null ? '' : `, with room for ${count(most)} tokens`;
	log.setWelcome(
		el('h2', {}, model ? `Chat with ${model}` : 'Start a chat'),
		el('p', {}, `Everything runs on this server${room}. Chats stay in this browser.`),
		el('ul', { class: 'hints' }, ...HINTS.map(([key, text]) => el('li', {}, el('kbd', {}, key), text))),
	);
}

const NOTICES = {
	away: 'The server is away. This page tries again by itself.',
	loading: 'The server is loading its model.',
	locked: 'The server asks for a key.',
};

async function enterKey(refused) {
	const answer = await askKey(refused);
	if (!answer) return;
	keys.set(answer.key, answer.remember);
	await server.check();
	if (server.state === 'locked') enterKey(true);
}

function showModels() {
	const models = server.models.length > 0 ? server.models : [{ id: 'No model' }];
	picker.replaceChildren(...models.map(({ id }) => el('option', { value: id }, id)));
	if (server.models.length > 0) picker.value = server.model(settings.model);
	picker.disabled = server.models.length === 0;
}

function showServer() {
	const { state } = server;
	const text = NOTICES[state];
	const notice = byId('notice');
	notice.dataset.state = state;
	notice.replaceChildren();
	if (text) notice.append(el('p', {}, icon(state === 'locked' ? 'key' : 'warning'), text));
	if (state === 'locked') notice.append(textButton('Enter key', () => enterKey(false)));
	showModels();
	if (state === 'ready') {
		composer.say('');
		showWelcome();
	}
	showChat();
}

server.addEventListener('change', () => {
	if (server.state === 'locked' && !document.querySelector('dialog')) enterKey(keys.get() !== '');
	if (server.state === 'ready' && byId('notice').childElementCount > 0) announce('The server is back.');
	showServer();
});

for (const show of [showModels, showChat]) server.addEventListener('models', show);

function editSettings() {
	openSettings({ settings, system: chats.current.system, given: server.given, changed: (system) => chats.setSystem(system) });
}

/** The address names the chat, so that a reload and the browser's arrows work. */
async function openAddress() {
	const id = /^#\/chat\/([\w-]+)$/.exec(location.hash)?.[1];
	if (id && await chats.open(id)) return;
	if (chats.current.children.length > 0 || id) chats.create();
	else showChat();
}

window.addEventListener('popstate', openAddress);
chats.addEventListener('unsaved', ({ detail }) => composer.say(`The browser cannot store this chat: ${detail}`));
chats.addEventListener('show', () => {
	showChat();
	showAddress();
});

window.addEventListener('keydown', (event) => {
	if (document.querySelector('dialog')) return;
	if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === 'k') {
		event.preventDefault();
		sidebar.open();
		history.search.focus();
		history.search.select();
	} else if (event.key === 'Escape' && !document.querySelector(':popover-open')) {
		if (sidebar.closeDrawer()) return;
		chats.stop();
	}
});

byId('bar').append(
	sidebar.button,
	iconButton('plus', 'New chat', () => {
		chats.create();
		composer.focus();
	}, { class: 'icon fresh' }),
	el('div', { class: 'picker' }, picker, icon('down')),
	el('div', { class: 'gap' }),
	live.button,
	live.panel,
	iconButton('sliders', 'Settings', editSettings),
);
byId('dock').append(log.latest, composer.node);
if (!store.lasting) byId('dock').append(el('p', { class: 'hint' }, 'This browser stores nothing for this page: chats end with it.'));

showWelcome();
showServer();
await history.show();
await openAddress();
// On a phone the focus would open the keyboard over the page.
if (window.matchMedia('(hover: hover)').matches) composer.focus();
server.check();

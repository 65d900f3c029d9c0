// Checks that run inside of the page (`page.py` brings them there): modules that need no server, and colours.

const MARKDOWN = [
	['plain', '<p>plain</p>'],
	['# One #\n## Two', '<h3 class="h1">One</h3><h4 class="h2">Two</h4>'],
	['#hash', '<p>#hash</p>'],
	['a\nb', '<p>a<br>b</p>'],
	['**bold** *it* ***both*** ~~old~~', '<p><strong>bold</strong> <em>it</em> <em><strong>both</strong></em> <del>old</del></p>'],
	['snake_case_name 2 * 3 * 4', '<p>snake_case_name 2 * 3 * 4</p>'],
	['*a **b* c**', '<p><em>a <em><em>b</em> c</em></em></p>'],
	['`a*b*` ``c`d``', '<p><code>a*b*</code> <code>c`d</code></p>'],
	['`open', '<p>`open</p>'],
	['\\*no\\* &lt;b&gt; &#65;', '<p>*no* &lt;b&gt; A</p>'],
	['<b>x</b>', '<p>&lt;b&gt;x&lt;/b&gt;</p>'],
	['[x](javascript:alert(1))', '<p>[x](javascript:alert(1))</p>'],
	['[x](JaVaScRiPt:alert(1)) [y](vbscript:z)', '<p>[x](JaVaScRiPt:alert(1)) [y](vbscript:z)</p>'],
	['cost $5 or $6', '<p>cost $5 or $6</p>'],
	['$a_1*b_2*c$', '<p><span class="math">$a_1*b_2*c$</span></p>'],
	['\\[\nx_1^2 *a*\n\\]', '<p><span class="math">\\[\nx_1^2 *a*\n\\]</span></p>'],
	['- a\n- b\n  - c', '<ul><li>a</li><li>b<ul><li>c</li></ul></li></ul>'],
	['1. a\n2. b', '<ol><li>a</li><li>b</li></ol>'],
	['3) a\n\n4) b', '<ol start="3"><li><p>a</p></li><li><p>b</p></li></ol>'],
	['1. a\n   - b\n2. c', '<ol><li>a<ul><li>b</li></ul></li><li>c</li></ol>'],
	['- [x] a\n- [ ] b', '<ul><li class="task"><input type="checkbox" disabled="" checked="" aria-label="done">a</li>'
		+ '<li class="task"><input type="checkbox" disabled="" aria-label="open">b</li></ul>'],
	['In 1990\n1990. was', '<p>In 1990<br>1990. was</p>'],
	['> a\n> - b\n\nc', '<blockquote><p>a</p><ul><li>b</li></ul></blockquote><p>c</p>'],
	['a\n\n---\nb', '<p>a</p><hr><p>b</p>'],
];

const TABLE = '| a | b \\| c | d |\n|:--|:-:|--:|\n| 1 | `x|y` | 3 |\n| 4 |\nend';
const CODE = '```python\n# why | how\ndef f(x):\n\treturn "s" + """a\nb"""\n```';
const TEXTS = [
	...MARKDOWN.map(([source]) => source), TABLE, CODE, '```\nopen\n``', '~~~\n```\n~~~\nafter', '- a\n\n  ```c\n  int x; /* a\n\n  b */\n  ```\n- b',
	'1. a\n\n2. b\n\n   c\n\nend', '[a [b](https://x.org) c](https://y.org) <https://z.org/?a=(b)> https://w.org/a_(b).', '> a\nlazy\n\n\n> b',
];

/** A random number generator with a seed: 0 ≤ x < n. */
function random(seed) {
	let state = seed;
	return (n) => {
		state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
		return Math.floor((state / 2 ** 32) * n);
	};
}

const htmlOf = (node) => {
	const host = document.createElement('div');
	host.append(node);
	return host.innerHTML;
};

function checkMarkdown({ markdown }, fail) {
	for (const [source, wanted] of MARKDOWN) {
		const got = htmlOf(markdown(source));
		if (got !== wanted) fail(`markdown ${JSON.stringify(source)}\n  gave   ${got}\n  wanted ${wanted}`);
	}
	const table = document.createElement('div');
	table.append(markdown(TABLE));
	const rows = Array.from(table.querySelectorAll('tr'), (row) => Array.from(row.cells, (cell) => cell.textContent).join('/'));
	if (rows.join(' ') !== 'a/b | c/d 1/x|y/3 4//') fail(`table: ${rows.join(' ')}`);
	const code = document.createElement('div');
	code.append(markdown(CODE));
	const text = code.querySelector('code').textContent;
	if (text !== '# why | how\ndef f(x):\n\treturn "s" + """a\nb"""') fail(`code: ${JSON.stringify(text)}`);
	const kinds = Array.from(code.querySelectorAll('code span'), (span) => `${span.className} ${span.textContent}`);
	for (const kind of ['code-comment # why | how', 'code-keyword def', 'code-call f', 'code-string "s"', 'code-string """a\nb"""']) {
		if (!kinds.includes(kind)) fail(`code: ${kind} is not among ${kinds.join(', ')}`);
	}
}

/** However a text is cut into pieces, it ends as it does whole. */
function checkGrowing({ markdown }, { GrowingMarkdown }, fail) {
	const next = random(7);
	for (let round = 0; round < 400; round += 1) {
		const text = Array.from({ length: 1 + next(4) }, () => TEXTS[next(TEXTS.length)]).join(['\n', '\n\n'][next(2)]);
		const root = document.createElement('div');
		const growing = new GrowingMarkdown(root);
		for (let at = 0; at < text.length;) {
			const end = at + 1 + next(9);
			growing.append(text.slice(at, end));
			if (next(2)) growing.show(false);
			at = end;
		}
		growing.finish();
		const wanted = htmlOf(markdown(text));
		if (root.innerHTML !== wanted) fail(`growing ${JSON.stringify(text)}\n  gave   ${root.innerHTML}\n  wanted ${wanted}`);
	}
}

/** Nothing that a model writes may hang the page. */
function checkTime({ markdown }, fail) {
	const hostile = {
		brackets: '['.repeat(50_000), links: '[a]('.repeat(20_000), emphasis: '*a _b '.repeat(20_000), stars: '*'.repeat(50_000),
		ticks: Array.from({ length: 300 }, (_, n) => '`'.repeat(n)).join(' '), quotes: '>'.repeat(20_000), lists: '- '.repeat(20_000),
		rules: `${'- '.repeat(20_000)}x`, headings: `# ${' #'.repeat(20_000)} x`, spaces: `|-${' '.repeat(50_000)}x`, fences: '```\n'.repeat(5000),
		tables: '| a |\n|---|\n'.repeat(5000), dollars: '$a'.repeat(30_000), formulas: '\\('.repeat(30_000), entities: '&#'.repeat(50_000),
		address: `https://x${')'.repeat(50_000)}`, html: '<https://'.repeat(20_000), nested: `${'**a '.repeat(20_000)}${' b**'.repeat(20_000)}`,
		code: `\`\`\`js\n${'/* " \' `'.repeat(8000)}\n\`\`\``, yaml: `\`\`\`yaml\n${'a: b '.repeat(12_000)}\n\`\`\``,
	};
	for (const [name, text] of Object.entries(hostile)) {
		const begin = performance.now();
		markdown(text);
		const took = performance.now() - begin;
		if (took > 2000) fail(`${name}: ${Math.round(took)} ms for ${text.length} characters`);
	}
}

async function checkEvents({ eventData }, fail) {
	const text = 'data: a\r\n\r\n: note\n\ndata:b\r\ndata: c\n\nevent: x\nid: 1\rdata: ä€\r\rdata: cut';
	const bytes = new TextEncoder().encode(text);
	for (let size = 1; size < bytes.length; size += 1) {
		const got = [];
		const body = new ReadableStream({
			start(stream) {
				for (let at = 0; at < bytes.length; at += size) stream.enqueue(bytes.slice(at, at + size));
				stream.close();
			},
		});
		for await (const data of eventData(body)) got.push(data);
		if (got.join('|') !== 'a|b\nc|ä€') fail(`events in pieces of ${size}: ${JSON.stringify(got)}`);
	}
}

function checkMetrics({ readMetrics }, fail) {
	const sums = readMetrics('# TYPE a gauge\na{model="x y"} 2\na{model="z"} 3\nb 1.5e3\nc NaN\n');
	if (sums.get('a') !== 5 || sums.get('b') !== 1500 || sums.has('c')) fail(`metrics: ${JSON.stringify([...sums])}`);
}

function checkArchive({ readArchive, writeArchive }, { addMessage, createChat }, fail) {
	const chat = createChat('system');
	const first = addMessage(chat, null, { role: 'user', content: 'a', files: [{ name: 'n', text: 't' }] });
	addMessage(chat, first.id, { role: 'assistant', content: 'b', finish: 'stop', stats: { tokens: 1 } });
	addMessage(chat, first.id, { role: 'assistant', content: 'c', finish: 'stop' });
	const text = writeArchive([chat]);
	const sorted = (_, value) => (value?.constructor === Object ? Object.fromEntries(Object.entries(value).sort()) : value);
	const [before, after] = [[chat], readArchive(text)].map((chats) => JSON.stringify(chats, sorted));
	if (before !== after) fail(`archive: a round trip makes ${after} of ${before}`);
	const breaks = {
		role: (copy) => { copy.messages[first.id].role = 'system'; },
		orphan: (copy) => { copy.messages[first.id].children.shift(); },
		cycle: (copy) => { copy.messages[first.id].parent = first.id; },
		twice: (copy) => { copy.children.push(copy.children[0]); },
		id: (copy) => { copy.id = '../x'; },
		content: (copy) => { copy.messages[first.id].content = { toString: 1 }; },
		chosen: (copy) => { copy.chosen = 'nobody'; },
		files: (copy) => { copy.messages[first.id].files = [{ name: 1 }]; },
	};
	for (const [name, damage] of Object.entries(breaks)) {
		const copy = JSON.parse(text);
		damage(copy.chats[0]);
		try {
			readArchive(JSON.stringify(copy));
			fail(`archive: ${name} is accepted`);
		} catch (error) {
			if (!error.message.startsWith('This is not a file of exported chats')) fail(`archive: ${name} gives "${error.message}"`);
		}
	}
}

/** What fails of all this, as texts. */
async function moduleFailures() {
	const failures = [];
	const fail = (text) => failures.push(text);
	const names = ['markdown', 'growing', 'sse', 'live', 'archive', 'tree'];
	const [markdown, growing, sse, live, archive, tree] = await Promise.all(
		names.map((name) => import(new URL(`${name}.js`, document.baseURI))),
	);
	checkMarkdown(markdown, fail);
	checkGrowing(markdown, growing, fail);
	checkTime(markdown, fail);
	await checkEvents(sse, fail);
	checkMetrics(live, fail);
	checkArchive(archive, tree, fail);
	return failures.slice(0, 10);
}

/** The controls that have no name for a screen reader, and the ids that are there twice. */
function namelessControls() {
	const problems = [];
	for (const control of document.querySelectorAll('button, a, input, select, textarea, summary, [tabindex="0"]')) {
		const label = control.labels?.[0]?.textContent ?? '';
		const name = control.getAttribute('aria-label') || label.trim() || (control.matches('button, a, summary') && control.textContent.trim());
		if (!name) problems.push(`no name: ${control.outerHTML.slice(0, 120)}`);
	}
	const ids = Array.from(document.querySelectorAll('[id]'), ({ id }) => id);
	return [...problems, ...ids.filter((id, at) => ids.indexOf(id) !== at).map((id) => `twice: ${id}`)];
}

/** The texts whose contrast with what is behind them is below AA. */
function faintTexts() {
	const pixel = new OffscreenCanvas(1, 1).getContext('2d', { willReadFrequently: true });
	const channels = (colour) => {
		pixel.clearRect(0, 0, 1, 1);
		pixel.fillStyle = colour;
		pixel.fillRect(0, 0, 1, 1);
		return pixel.getImageData(0, 0, 1, 1).data;
	};
	const behind = (element) => {
		for (let at = element; at; at = at.parentElement) {
			const colour = channels(getComputedStyle(at).backgroundColor);
			if (colour[3] === 255) return colour;
		}
		return [255, 255, 255];
	};
	const luminance = ([r, g, b]) => {
		const [x, y, z] = [r, g, b].map((c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4));
		return 0.2126 * x + 0.7152 * y + 0.0722 * z;
	};
	const faint = new Set();
	const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
	while (walker.nextNode()) {
		const element = walker.currentNode.parentElement;
		const disabled = element.closest('[disabled], script, noscript');
		if (walker.currentNode.data.trim() === '' || disabled || !element.checkVisibility()) continue;
		const style = getComputedStyle(element);
		const [a, b] = [luminance(channels(style.color)), luminance(behind(element))].sort((x, y) => y - x);
		const contrast = (a + 0.05) / (b + 0.05);
		const large = parseFloat(style.fontSize) >= 24;
		if (contrast < (large ? 3 : 4.5)) faint.add(`${contrast.toFixed(2)}: ${walker.currentNode.data.trim().slice(0, 40)}`);
	}
	return [...faint];
}

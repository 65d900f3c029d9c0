// Colours for code: comments, strings, numbers and keywords, by one regular expression per language. A token that goes on
// past the end of the text (a comment that is not closed yet) is matched up to the end.

const C_COMMENTS = '//[^\\n]*|/\\*[\\s\\S]*?(?:\\*/|(?![\\s\\S]))';
const HASH_COMMENTS = '#[^\\n]*';
const STRINGS = '"(?:[^"\\\\\\n]|\\\\[\\s\\S])*"?|\'(?:[^\'\\\\\\n]|\\\\[\\s\\S])*\'?';
const NUMBERS = '\\b(?:0[xX][\\da-fA-F_]+|0[bB][01_]+|\\d[\\d_]*(?:\\.\\d[\\d_]*)?(?:[eE][+-]?\\d+)?)[a-zA-Z\\d]*';

const WORDS = {
	rust: 'as async await break const continue crate dyn else enum extern false fn for if impl in let loop match mod move mut '
		+ 'pub ref return self Self static struct super trait true type unsafe use where while',
	python: 'and as assert async await break class continue def del elif else except False finally for from global if import '
		+ 'in is lambda match None nonlocal not or pass raise return self True try while with yield',
	javascript: 'as async await break case catch class const continue default delete do else enum export extends false finally '
		+ 'for from function if implements import in instanceof interface let new null of private public readonly return static '
		+ 'super switch this throw true try type typeof undefined var void while with yield',
	// One list for the family of C: a word that only Java or C# has is seldom a name in C.
	c: 'abstract auto async await bool boolean break case catch char class const constexpr continue default delete do double '
		+ 'else enum extends extern false final finally float for goto if implements import in inline int interface internal is '
		+ 'let long namespace new null nullptr override package private protected public readonly record return short signed '
		+ 'sizeof static string struct super switch template this throw throws true try typedef typename union unsigned using val '
		+ 'var virtual void volatile when while fun',
	go: 'break case chan const continue default defer else false for func go goto if import interface map nil package range '
		+ 'return select struct switch true type var',
	shell: 'case cd do done echo elif else esac exit export fi for function if in local read return set sudo then until while',
	sql: 'add all alter and as asc between by case create cross delete desc distinct drop else end exists foreign from full '
		+ 'group having in index inner insert into is join key left like limit not null on or order outer primary references '
		+ 'right select set table then union unique update values view when where with',
	data: 'true false null yes no on off',
};

/** One expression with a group per kind; `more` comes first and may hold groups of its own kinds. */
function pattern({ comments, strings = STRINGS, words, flags = '', more = '' }) {
	const parts = [more, comments && `(?<comment>${comments})`, strings && `(?<string>${strings})`, `(?<number>${NUMBERS})`];
	if (words) parts.push(`(?<keyword>\\b(?:${words.trim().split(/\s+/).join('|')})\\b)`);
	// A whole word, so that a number or a keyword inside a name is none; then any one character.
	parts.push('(?<name>[\\p{L}_$][\\p{L}\\p{N}_$]*)(?:(?<call>(?=\\())|)', '[\\s\\S]');
	return new RegExp(parts.filter(Boolean).join('|'), `yu${flags}`);
}

const TEMPLATE = '`(?:[^`\\\\]|\\\\[\\s\\S])*(?:`|(?![\\s\\S]))';
const TRIPLE = '"""[\\s\\S]*?(?:"""|(?![\\s\\S]))|\'\'\'[\\s\\S]*?(?:\'\'\'|(?![\\s\\S]))';
const RUST_STRINGS = '"(?:[^"\\\\]|\\\\[\\s\\S])*(?:"|(?![\\s\\S]))|\'(?:[^\'\\\\\\n]|\\\\[^\\n]{1,8}?)\'';

const LANGUAGES = {
	rust: { comments: C_COMMENTS, strings: RUST_STRINGS, words: WORDS.rust },
	python: { comments: HASH_COMMENTS, strings: `${TRIPLE}|${STRINGS}`, words: WORDS.python },
	javascript: { comments: C_COMMENTS, strings: `${TEMPLATE}|${STRINGS}`, words: WORDS.javascript },
	c: { comments: C_COMMENTS, words: WORDS.c, more: '(?<keyword2>^[ \\t]*#[ \\t]*\\w+)', flags: 'm' },
	go: { comments: C_COMMENTS, strings: `\`[^\`]*(?:\`|(?![\\s\\S]))|${STRINGS}`, words: WORDS.go },
	shell: { comments: '(?<![^\\s])#[^\\n]*', words: WORDS.shell, more: '(?<keyword2>\\$\\{?\\w+\\}?)' },
	sql: { comments: '--[^\\n]*|/\\*[\\s\\S]*?(?:\\*/|(?![\\s\\S]))', words: WORDS.sql, flags: 'i' },
	json: { more: '(?<key>"(?:[^"\\\\\\n]|\\\\.)*"(?=[ \\t]*:))', words: WORDS.data },
	yaml: { comments: '(?<![^\\s])#[^\\n]*', more: '(?<key>^[ \\t-]*[\\w.-]+(?=:(?:\\s|$)))', words: WORDS.data, flags: 'm' },
	html: { comments: '<!--[\\s\\S]*?(?:-->|(?![\\s\\S]))', more: '(?<keyword2></?[a-zA-Z][\\w:-]*|/?>)|(?<key>[\\w:-]+(?==["\']))' },
	diff: { strings: '', more: '(?<added>^\\+[^\\n]*)|(?<removed>^-[^\\n]*)|(?<keyword2>^@@[^\\n]*)', flags: 'm' },
};

const ALIASES = {
	rs: 'rust', py: 'python', js: 'javascript', jsx: 'javascript', ts: 'javascript', tsx: 'javascript', typescript: 'javascript',
	h: 'c', cpp: 'c', 'c++': 'c', cuda: 'c', hip: 'c', cs: 'c', csharp: 'c', 'c#': 'c', java: 'c', kotlin: 'c', scala: 'c', swift: 'c',
	dart: 'c', golang: 'go', sh: 'shell', bash: 'shell', zsh: 'shell', console: 'shell', yml: 'yaml', jsonc: 'json',
	xml: 'html', svg: 'html', patch: 'diff',
};

const made = new Map();

/** The expression of a language, or null if it is unknown. */
function expression(language) {
	const name = language.toLowerCase();
	const key = Object.hasOwn(ALIASES, name) ? ALIASES[name] : name;
	if (!Object.hasOwn(LANGUAGES, key)) return null;
	if (!made.has(key)) made.set(key, pattern(LANGUAGES[key]));
	return made.get(key);
}

function kindOf(groups) {
	for (const kind of ['comment', 'string', 'number', 'keyword', 'key', 'added', 'removed']) {
		if (groups[kind] !== undefined) return kind;
	}
	if (groups.keyword2 !== undefined) return 'keyword';
	return groups.call === undefined ? null : 'call';
}

/**
 * The tokens of `text` from `from` on: `each(kind or null, text)`, neighbours without a kind joined. With `open` it ends
 * before the last line break, since all after it may still change, and the break may go with a fence. Returns where it ended.
 */
export function highlight(language, text, from, open, each) {
	const tokens = expression(language);
	const limit = open ? text.lastIndexOf('\n') : text.length;
	let plain = '';
	let at = from;
	while (at < limit) {
		let kind = null;
		let end = limit;
		if (tokens) {
			tokens.lastIndex = at;
			const found = tokens.exec(text);
			end = at + Math.max(1, found[0].length);
			kind = kindOf(found.groups ?? {});
		}
		if (end > limit) break;
		if (kind === null) plain += text.slice(at, end);
		else {
			if (plain !== '') each(null, plain);
			plain = '';
			each(kind, text.slice(at, end));
		}
		at = end;
	}
	if (plain !== '') each(null, plain);
	return at;
}

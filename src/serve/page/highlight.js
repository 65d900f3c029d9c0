// Colours for code: comments, strings, numbers and keywords, by one regular expression per language. A token that goes on
// past the end of the text (a comment that is not closed yet) is matched up to the end.

const C_COMMENTS = '//[^\\n]*|/\\*[\\s\\S]*?(?:\\*/|(?![\\s\\S]))';
const HASH_COMMENTS = '#[^\\n]*';
const STRINGS = '"(?:[^"\\\\\\n]|\\\\[\\s\\S])*"?|\'(?:[^\'\\\\\\n]|\\\\[\\s\\S])*\'?';
const NUMBERS = '\\b(?:0[xX][\\da-fA-F_]+|0[bB][01_]+|\\d[\\d_]*(?:\\.\\d[\\d_]*)?(?:[eE][+-]?\\d+)?)[a-zA-Z\\d]*';

const C_WORDS = 'break case char class const continue default do double else enum extern false float for goto if int long '
  + 'new null nullptr private protected public return short signed sizeof static struct switch this throw true try catch '
  + 'typedef union unsigned using namespace virtual void volatile while bool template typename auto constexpr override';

const WORDS = {
  rust: 'as async await break const continue crate dyn else enum extern false fn for if impl in let loop match mod move mut '
    + 'pub ref return self Self static struct super trait true type unsafe use where while',
  python: 'and as assert async await break class continue def del elif else except False finally for from global if import '
    + 'in is lambda match None nonlocal not or pass raise return self True try while with yield',
  javascript: 'as async await break case catch class const continue debugger default delete do else enum export extends false '
    + 'finally for from function if implements import in instanceof interface let new null of private public readonly return '
    + 'static super switch this throw true try type typeof undefined var void while with yield',
  c: C_WORDS,
  java: `${C_WORDS} abstract boolean byte extends final finally implements import instanceof interface package record super `
    + 'synchronized throws var internal readonly namespace string object async await foreach in is out ref sealed fun val when',
  go: 'break case chan const continue default defer else fallthrough false for func go goto if import interface map nil '
    + 'package range return select struct switch true type var',
  shell: 'case do done elif else esac export fi for function if in local read return set then unset until while cd echo exit '
    + 'source sudo',
  sql: 'add all alter and as asc between by case create cross delete desc distinct drop else end exists foreign from full '
    + 'group having if in index inner insert into is join key left like limit not null offset on or order outer primary '
    + 'references right select set table then union unique update values view when where with',
  lua: 'and break do else elseif end false for function goto if in local nil not or repeat return then true until while',
  ruby: 'alias and begin break case class def do else elsif end ensure false for if in module next nil not or redo rescue '
    + 'retry return self super then true undef unless until when while yield',
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
  java: { comments: C_COMMENTS, words: WORDS.java },
  go: { comments: C_COMMENTS, strings: `\`[^\`]*(?:\`|(?![\\s\\S]))|${STRINGS}`, words: WORDS.go },
  shell: { comments: '(?<![^\\s])#[^\\n]*', words: WORDS.shell, more: '(?<keyword2>\\$\\{?\\w+\\}?)' },
  sql: { comments: '--[^\\n]*|/\\*[\\s\\S]*?(?:\\*/|(?![\\s\\S]))', words: WORDS.sql, flags: 'i' },
  lua: { comments: '--\\[\\[[\\s\\S]*?(?:\\]\\]|(?![\\s\\S]))|--[^\\n]*', words: WORDS.lua },
  ruby: { comments: HASH_COMMENTS, words: WORDS.ruby },
  json: { more: '(?<key>"(?:[^"\\\\\\n]|\\\\.)*"(?=\\s*:))', words: WORDS.data },
  yaml: { comments: '(?<![^\\s])#[^\\n]*', more: '(?<key>^[ \\t-]*[\\w.-]+(?=:(?:\\s|$)))', words: WORDS.data, flags: 'm' },
  toml: { comments: HASH_COMMENTS, more: '(?<key>^[ \\t]*(?:\\[+[^\\]\\n]*\\]+|[\\w.-]+(?=[ \\t]*=)))', words: WORDS.data, flags: 'm' },
  css: { comments: '/\\*[\\s\\S]*?(?:\\*/|(?![\\s\\S]))', more: '(?<key>[\\w-]+(?=\\s*:[^:{]{0,200}[;}\\n])|@[\\w-]+)' },
  html: { comments: '<!--[\\s\\S]*?(?:-->|(?![\\s\\S]))', more: '(?<keyword2></?[a-zA-Z][\\w:-]*|/?>)|(?<key>[\\w:-]+(?==["\']))' },
  diff: { strings: '', more: '(?<added>^\\+[^\\n]*)|(?<removed>^-[^\\n]*)|(?<keyword2>^@@[^\\n]*)', flags: 'm' },
};

const ALIASES = {
  rs: 'rust', py: 'python', python3: 'python', js: 'javascript', jsx: 'javascript', ts: 'javascript', tsx: 'javascript',
  typescript: 'javascript', mjs: 'javascript', h: 'c', cpp: 'c', 'c++': 'c', cc: 'c', hpp: 'c', cuda: 'c', hip: 'c',
  objc: 'c', cs: 'java', csharp: 'java', 'c#': 'java', kotlin: 'java', kt: 'java', scala: 'java', swift: 'java', dart: 'java',
  golang: 'go', sh: 'shell', bash: 'shell', zsh: 'shell', console: 'shell', fish: 'shell', rb: 'ruby', yml: 'yaml',
  ini: 'toml', jsonc: 'json', json5: 'json', xml: 'html', svg: 'html', vue: 'html', scss: 'css', less: 'css', patch: 'diff',
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
 * The tokens of `text` from `from` on: `each(kind or null, text)`, neighbours without a kind joined. With `open`, tokens
 * that the text's last, unfinished line may still change are left out. Returns where it ended.
 */
export function highlight(language, text, from, open, each) {
  const tokens = expression(language);
  const limit = open ? text.lastIndexOf('\n') + 1 : text.length;
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
    if (end > limit || (open && end === limit && kind !== null)) break;
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

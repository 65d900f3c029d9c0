// Numbers, times and sizes as people read them.

const whole = new Intl.NumberFormat('en');

/** 1204 → "1,204". */
export const count = (n) => whole.format(n);

/** Milliseconds → "80 ms", "2.4 s", "3 min 5 s". */
export function duration(ms) {
	if (ms < 1000) return `${Math.round(ms)} ms`;
	if (ms < 60_000) return `${(ms / 1000).toFixed(1)} s`;
	return `${Math.floor(ms / 60_000)} min ${Math.round((ms % 60_000) / 1000)} s`;
}

/** Tokens per second with three digits at most. */
export const rate = (perSecond) => (perSecond >= 100 ? count(Math.round(perSecond)) : perSecond.toFixed(1));

/** Bytes → "812 B", "4.1 KB". */
export function bytes(n) {
	if (n < 1000) return `${n} B`;
	return n < 1_000_000 ? `${(n / 1000).toFixed(1)} KB` : `${(n / 1_000_000).toFixed(1)} MB`;
}

/** A probability in percent, from its natural logarithm. */
export function percent(logprob) {
	const share = 100 * Math.exp(logprob);
	if (share >= 99.95) return '100 %';
	return share >= 0.1 ? `${share.toFixed(1)} %` : '< 0.1 %';
}

/** The heading in the history under which a time belongs. */
export function age(time, now = Date.now()) {
	const midnight = new Date(now).setHours(0, 0, 0, 0);
	const day = 86_400_000;
	if (time >= midnight) return 'Today';
	if (time >= midnight - day) return 'Yesterday';
	if (time >= midnight - 7 * day) return 'Last 7 days';
	if (time >= midnight - 30 * day) return 'Last 30 days';
	return 'Older';
}

// The chosen theme is set before the first paint; a module would run after it, and the page would flash.
'use strict';
try {
	const theme = localStorage.getItem('rfgraph.theme');
	if (theme === 'light' || theme === 'dark') document.documentElement.dataset.theme = theme;
} catch {
	// Storage is blocked: the system's theme is used.
}

// Light, dark, or as the system has it; `early.js` sets the choice when the page loads.

import { iconButton, relabel } from './dom.js';
import { icon } from './icons.js';
import { keep } from './kept.js';

const STORED = 'rfgraph.theme';
const ORDER = ['auto', 'light', 'dark'];
const SHOWN = {
	auto: { label: 'Theme: as the system', icon: 'auto' },
	light: { label: 'Theme: light', icon: 'sun' },
	dark: { label: 'Theme: dark', icon: 'moon' },
};

/** A button that goes through the three. */
export function themeButton() {
	const root = document.documentElement;
	const button = iconButton('auto', '', () => {
		const theme = ORDER[(ORDER.indexOf(root.dataset.theme ?? 'auto') + 1) % ORDER.length];
		if (theme === 'auto') delete root.dataset.theme;
		else root.dataset.theme = theme;
		keep(STORED, theme);
		show();
	});
	const show = () => {
		const shown = SHOWN[root.dataset.theme ?? 'auto'];
		button.replaceChildren(icon(shown.icon));
		relabel(button, shown.label);
	};
	show();
	return button;
}

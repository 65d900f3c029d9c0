// The icons: strokes on a grid of 24 by 24.

const PATHS = {
	attach: 'M8 12.5l5.5-5.5a3 3 0 0 1 4.200 4.200l-7.700 7.700a5 5 0 0 1-7-7L10.5 4.5',
	auto: 'M12 4a8 8 0 1 0 0 16zM12 4a8 8 0 0 1 0 16',
	check: 'M5 12.5l4.5 4.5L19 7.5',
	close: 'M6 6l12 12M18 6L6 18',
	copy: 'M9 9h10v11H9zM5 15V4h10',
	down: 'M6 9.5l6 6 6-6',
	download: 'M12 4v11M7.5 10.5 12 15l4.5-4.5M5 20h14',
	edit: 'M4.5 19.5l1-4L16 5l3 3L8.5 18.5zM14 7l3 3',
	file: 'M6 3.5h8l4 4v13H6zM14 3.5v4h4',
	key: 'M12.5 11.5L20 4M17 7l2.5 2.5M8.5 11a4.5 4.5 0 1 0 0 9 4.5 4.5 0 0 0 0-9z',
	left: 'M14.5 6l-6 6 6 6',
	menu: 'M4 7h16M4 12h16M4 17h10',
	moon: 'M19.5 14.5A8 8 0 0 1 9.5 4.5a8 8 0 1 0 10 10z',
	play: 'M7 5.5v13l11-6.5z',
	plus: 'M12 5v14M5 12h14',
	redo: 'M19 12a7 7 0 1 1-2.300-5.200M19.5 4v4.5H15',
	right: 'M9.5 6l6 6-6 6',
	search: 'M10.5 4.5a6 6 0 1 0 0 12 6 6 0 0 0 0-12zM15 15l5 5',
	send: 'M12 19V5.5M6 11.5l6-6 6 6',
	sliders: 'M4 8h9M17 8h3M4 16h3M11 16h9M15 6v4M9 14v4',
	stop: 'M7 7h10v10H7z',
	sun: 'M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8zM12 2.5v2M12 19.5v2M2.5 12h2M19.5 12h2M5.300 5.300l1.400 1.400M17.300 17.300l1.400 1.400M5.300 18.700l1.400-1.400M17.300 6.700l1.400-1.400',
	thought: 'M9 18.5h6M10 21h4M8.5 15.5C6.800 14.300 6 12.5 6 10.5a6 6 0 0 1 12 0c0 2-.8 3.800-2.5 5z',
	tokens: 'M4 6h6v5H4zM14 6h6v5h-6zM4 15h10v4H4zM18 15h2v4h-2z',
	tool: 'M20 7.5a5 5 0 0 1-6.700 4.700L7 18.5a2 2 0 0 1-3-3l6.5-6.200A5 5 0 0 1 16.5 3L14 6l1 2.5 2.5 1z',
	trash: 'M5 7h14M9.5 7V4.5h5V7M7 7l.8 13h8.400L17 7',
	upload: 'M12 15V4M7.5 8.5 12 4l4.5 4.5M5 20h14',
	warning: 'M12 4 2.5 20h19zM12 10v4.5M12 17v.6',
};

const SVG = 'http://www.w3.org/2000/svg';

function shape(tag, attributes) {
	const node = document.createElementNS(SVG, tag);
	for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
	return node;
}

/** An icon by name; a screen reader skips it. */
export function icon(name) {
	const svg = shape('svg', { viewBox: '0 0 24 24', class: 'glyph', 'aria-hidden': 'true', focusable: 'false' });
	svg.append(shape('path', { d: PATHS[name] }));
	return svg;
}

/** The mark of the project: a graph of three nodes. */
export function mark() {
	const svg = shape('svg', { viewBox: '0 0 24 24', class: 'glyph mark', 'aria-hidden': 'true', focusable: 'false' });
	svg.append(shape('path', { d: 'M7 7.5 17 5M7 9l3.5 7M17.5 7 13 16' }));
	for (const [cx, cy] of [[5.5, 7.5], [18.5, 5], [11.5, 18]]) svg.append(shape('circle', { cx, cy, r: 2.5 }));
	return svg;
}

/** A line of `values`, scaled to the largest of them. */
export function sparkline(values, count) {
	const svg = shape('svg', {
		viewBox: '0 0 120 32', class: 'sparkline', preserveAspectRatio: 'none', 'aria-hidden': 'true',
	});
	const top = Math.max(1, ...values);
	const points = values.map((value, at) => {
		const x = 120 - ((values.length - 1 - at) * 120) / (count - 1);
		return `${x.toFixed(1)},${(30 - (28 * value) / top).toFixed(1)}`;
	});
	svg.append(shape('polyline', { points: points.join(' ') }));
	return svg;
}

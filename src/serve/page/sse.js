// Server-sent events out of a response's body.

/**
 * The data of each event, in order. Lines may end with CR, LF or both, comments are skipped, and an event that the end
 * of the stream cuts off is dropped, as the HTML standard has it. Leaving the loop cancels the response.
 */
export async function* eventData(body) {
	const reader = body.getReader();
	const decoder = new TextDecoder();
	let rest = '';
	let data = [];
	try {
		for (;;) {
			const { value, done } = await reader.read();
			rest += done ? decoder.decode() : decoder.decode(value, { stream: true });
			// A CR at the end may be the first half of a CR LF.
			const ready = !done && rest.endsWith('\r') ? rest.slice(0, -1) : rest;
			const lines = ready.split(/\r\n|\n|\r/);
			rest = lines.pop() + rest.slice(ready.length);
			for (const line of lines) {
				if (line === '') {
					if (data.length > 0) yield data.join('\n');
					data = [];
				} else if (line.startsWith('data:')) {
					data.push(line.slice(line[5] === ' ' ? 6 : 5));
				}
			}
			if (done) return;
		}
	} finally {
		// After an error the reader is closed already, and cancelling it rejects.
		await reader.cancel().catch(() => {});
	}
}

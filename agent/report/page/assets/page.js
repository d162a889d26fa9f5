'use strict';
// Draws the plots, asks every 15 seconds for what has changed, and searches the hosts. Without it the page has
// the same as text. What comes from the server becomes nodes of a document that runs nothing, or text.
(() => {
	const $ = (id) => document.getElementById(id);
	const color = (name) => getComputedStyle(document.documentElement).getPropertyValue('--' + name).trim();
	const offset = Number(document.body.dataset.offset); // of the host's zone, in seconds
	const poll = 15000;
	const day = 86400;
	let since = document.body.dataset.since;

	const make = (tag, name, text) => {
		const e = document.createElement(tag);
		if (name) e.className = name;
		if (text) e.textContent = text;
		return e;
	};

	async function get(path) {
		const answer = await fetch(path, { cache: 'no-store' });
		if (!answer.ok) throw new Error(answer.status + ' ' + (await answer.text()));
		return answer;
	}
	const json = async (path) => (await get(path)).json();

	// What changes is replaced where it differs, but not under somebody's hands.
	async function live() {
		const text = await (await get('/live?since=' + since)).text();
		const fresh = new DOMParser().parseFromString(text, 'text/html');
		const chosen = getSelection();
		for (const now of document.querySelectorAll('[data-live]')) {
			const then = fresh.getElementById(now.id);
			const busy = now.contains(document.activeElement) || (!chosen.isCollapsed && now.contains(chosen.anchorNode));
			if (!then || busy || now.isEqualNode(then)) continue;
			now.className = then.className;
			now.replaceChildren(...then.childNodes);
		}
		search();
	}

	function search() {
		const word = $('find').value.trim().toLowerCase();
		const rows = [...$('host-rows').rows];
		let n = 0;
		for (const row of rows) {
			row.hidden = !row.textContent.toLowerCase().includes(word);
			if (!row.hidden) n++;
		}
		const text = word ? n + ' of ' + rows.length : '';
		if ($('found').textContent !== text) $('found').textContent = text;
	}

	// d is what is drawn; x are the ends of the spans.
	let d = null;
	let plots = [];
	let asked = 0;
	let drawn = 0;

	async function load() {
		const mine = ++asked;
		const [past, status, served, events] = await Promise.all(['history', 'status', 'hosts', 'events'].map((what) => json('/api/v1/' + what + '?since=' + since)));
		if (mine !== asked) return; // another range was chosen meanwhile
		const unix = (t) => Date.parse(t) / 1000;
		const from = unix(past.from);
		const to = unix(past.to);
		const ahead = Math.min(day, (to - from) / 3);
		const of = {};
		for (const c of past.columns) of[c.name] = c.values;
		d = { from, to, end: to + ahead, step: past.step, x: past.time.map((t) => Math.min(t + past.step, to)), of, credits: status.credits, gate: status.gate };
		d.next = status.credits.known ? status.credits.forecast.map((p) => ({ x: unix(p.at), usual: p.usual, high: p.high })) : [];
		const all = {};
		// What is served in the running minute is not recorded yet.
		const length = (t) => Math.max(Math.min(t + served.all.step, to - (to % 60)) - Math.max(t, from), 60);
		for (const c of served.all.columns) all[c.name] = c.values.map((v, i) => (v * 60) / length(served.all.time[i]));
		d.served = [served.all.time.map((t) => Math.min(t + served.all.step, to)), all.requests, all.errors];
		d.deploys = events.events.filter((e) => e.group === 'deploy').map((e) => ({ x: unix(e.at), name: e.subject }));
		d.jobs = jobs(events.events, status.gate.jobs, unix);
		drawn = Date.now();
		draw();
	}

	// The bars of jobs by name: of the runs that ended, and of what waits or runs. An event's text begins with the name.
	function jobs(events, now, unix) {
		const rows = new Map();
		const add = (name, bar) => rows.set(name, (rows.get(name) || []).concat(bar));
		for (const e of events) {
			if (e.kind !== 'batch-done' || e.numbers.ran_seconds === undefined) continue;
			add(e.text.split(':')[0], { from: unix(e.at) - e.numbers.ran_seconds, to: unix(e.at), promised: e.numbers.promised, spent: e.numbers.spent });
		}
		for (const j of now) {
			if (j.state === 'running') add(j.name, { from: unix(j.changed), to: d.to, promised: j.promised, spent: j.spent });
			if (j.state === 'waiting' || j.state === 'admitted') add(j.name, { from: unix(j.since), to: d.to, promised: j.promised, spent: j.spent, waits: true });
		}
		return [...rows].slice(-12).map(([name, bars]) => ({ name, bars }));
	}

	const number = (v) => (v === null || v === undefined ? '–' : v.toFixed(1));
	const clock = [
		[365 * day, '{YYYY}', null, null, null, null, null, null, 1],
		[28 * day, '{MMM}', '\n{YYYY}', null, null, null, null, null, 1],
		[day, '{MM}-{DD}', '\n{YYYY}', null, null, null, null, null, 1],
		[60, '{HH}:{mm}', '\n{MM}-{DD}', null, '\n{MM}-{DD}', null, null, null, 1],
		[1, '{HH}:{mm}:{ss}', '\n{MM}-{DD}', null, '\n{MM}-{DD}', null, null, null, 1],
	];

	const line = (label, name, more) => ({ label, stroke: color(name), width: 2, value: (u, v) => number(v), points: { show: false }, ...more });
	const stepped = uPlot.paths.stepped({ align: -1 });
	const hourly = (values) => values.map((v, i) => (v === null ? null : (v * 3600) / Math.max(d.of.watched[i], 1)));
	// rect fills a part of the plot between two times, from and to a share of its height.
	function rect(u, from, to, top, bottom, fill) {
		const { left, width, top: y, height } = u.bbox;
		const a = Math.max(u.valToPos(from, 'x', true), left);
		const b = Math.min(u.valToPos(to, 'x', true), left + width);
		if (b <= a) return 0;
		u.ctx.fillStyle = fill;
		u.ctx.fillRect(a, y + top * height, Math.max(b - a, uPlot.pxRatio), (bottom - top) * height);
		return b - a;
	}
	// shade marks the spans of which something is true.
	function shade(u, is, top, bottom, fill) {
		for (let i = 0; i < d.x.length; i++) if (is(i)) rect(u, d.x[i] - d.step, d.x[i], top, bottom, fill);
	}

	// Each plot has its title, what is drawn, its data, and what is drawn by hand beneath the lines.
	const kinds = [
		{
			title: 'Balance in credits, and what is expected without batches',
			hint: 'The band is by how much the balance may be wrong; where it is red, credits were thrown away.',
			height: 240,
			series: () => [
				line('balance', 'balance'), line('expected at usual demand', 'usual', { dash: [6, 4] }), line('at high demand', 'high', { dash: [2, 4] }),
				line('reserve', 'limit', { width: 1, dash: [10, 4] }), line('most', 'limit', { width: 1 }),
			],
			data() {
				const x = d.x.concat(d.next.map((p) => p.x));
				const none = d.next.map(() => null);
				const before = d.of.balance.map(() => null);
				if (d.next.length && before.length) before[before.length - 1] = d.of.balance[before.length - 1];
				const all = (v) => x.map(() => (d.credits.known ? v : null));
				return [x, d.of.balance.concat(none), before.concat(d.next.map((p) => p.usual)), before.concat(d.next.map((p) => p.high)), all(d.gate.reserve), all(d.credits.max)];
			},
			beneath(u) {
				shade(u, (i) => d.of.discarded[i] > 0.05, 0, 1, color('waste'));
				u.ctx.fillStyle = color('band');
				const [b, e] = [d.of.balance, d.of.balance_error];
				for (let i = 1; i < d.x.length; i++) {
					if (b[i] === null || b[i - 1] === null) continue;
					const at = (k, sign) => [u.valToPos(d.x[k], 'x', true), u.valToPos(b[k] + sign * (e[k] || 0), 'y', true)];
					u.ctx.beginPath();
					u.ctx.moveTo(...at(i - 1, 1));
					for (const p of [at(i, 1), at(i, -1), at(i - 1, -1)]) u.ctx.lineTo(...p);
					u.ctx.fill();
				}
			},
		},
		{
			title: 'Spent and earned, in credits an hour',
			height: 170,
			series: () => [line('services', 'services', { paths: stepped }), line('batches', 'batches', { paths: stepped }), line('earned', 'earned', { paths: stepped, width: 1 })],
			data: () => [d.x, hourly(d.of.services), hourly(d.of.batches), hourly(d.of.earned)],
		},
		{
			title: 'Gate and jobs',
			hint: 'A bar is when the gate was open, or a job waited (pale) or ran, with spent of promised credits.',
			height: () => 46 + 26 * (1 + d.jobs.length),
			series: () => [line('gate open', 'open', { paths: () => null, value: (u, v) => (v === null ? '–' : Math.round(100 * v) + ' %') }), line('jobs running', 'batches', { paths: () => null })],
			data: () => [d.x, d.of.gate_open, d.of.jobs_running],
			rows: () => ['gate', ...d.jobs.map((j) => j.name)],
			beneath(u) {
				const h = 1 / (1 + d.jobs.length);
				shade(u, (i) => d.of.gate_open[i] >= 0.5, 0.15 * h, 0.85 * h, color('open'));
				u.ctx.font = 11 * uPlot.pxRatio + 'px sans-serif';
				u.ctx.textAlign = 'left';
				u.ctx.textBaseline = 'middle';
				d.jobs.forEach((j, n) => {
					let free = u.bbox.left + u.bbox.width; // the newest bars have their numbers beside them, as far as there is room
					for (const b of j.bars.toReversed()) {
						u.ctx.globalAlpha = b.waits ? 0.35 : 1;
						const wide = rect(u, b.from, b.to, (n + 1.2) * h, (n + 1.8) * h, color(b.spent > b.promised ? 'bad' : 'batches'));
						u.ctx.globalAlpha = 1;
						if (!wide) continue;
						const text = number(b.spent) + ' of ' + number(b.promised);
						const [end, gap, long] = [u.valToPos(b.to, 'x', true), 4 * uPlot.pxRatio, u.ctx.measureText(text).width];
						const at = end + gap + long < free ? end + gap : end - wide - gap - long;
						const fits = at >= u.bbox.left && at + long <= free;
						u.ctx.fillStyle = color('ink');
						if (fits) u.ctx.fillText(text, at, u.bbox.top + (n + 1.5) * h * u.bbox.height);
						free = Math.min(fits ? at : free, end - wide) - gap;
					}
				});
			},
		},
		{
			title: 'Requests a minute',
			hint: 'Short marks are reloads of nginx, long ones deploys.',
			height: 190,
			series: () => [line('requests', 'services'), line('5xx', 'bad'), line('reloads', 'soft', { paths: () => null, value: (u, v) => (v === null || v === undefined ? '–' : v) })],
			data: () => uPlot.join([d.served, [d.x, d.of.reloads]]),
			beneath(u) {
				shade(u, (i) => d.of.reloads[i] > 0, 0.9, 1, color('limit'));
				u.ctx.font = 11 * uPlot.pxRatio + 'px sans-serif';
				u.ctx.textAlign = 'left';
				u.ctx.textBaseline = 'top';
				for (const e of d.deploys) {
					const wide = 1.5 * uPlot.pxRatio * (u.posToVal(1, 'x') - u.posToVal(0, 'x'));
					if (!rect(u, e.x, e.x + wide, 0, 1, color('batches')) || d.deploys.length > 12) continue;
					u.ctx.fillStyle = color('ink');
					u.ctx.fillText(e.name, u.valToPos(e.x, 'x', true) + 4 * uPlot.pxRatio, u.bbox.top);
				}
			},
		},
	];

	function options(kind, width) {
		const axis = { stroke: color('soft'), grid: { stroke: color('line'), width: 1 }, ticks: { stroke: color('line'), width: 1 }, font: '12px sans-serif' };
		const rows = kind.rows;
		return {
			width, height: typeof kind.height === 'function' ? kind.height() : kind.height,
			tzDate: (t) => uPlot.tzDate(new Date((t + offset) * 1000), 'Etc/UTC'),
			cursor: { y: false, drag: { x: false, y: false }, sync: { key: 'nagaya' } },
			scales: { x: { range: () => [d.from, d.end] }, y: { range: (u, low, high) => (rows ? [0, 1] : [Math.min(0, low || 0), (high || 1) * 1.06]) } },
			axes: [
				{ ...axis, values: clock, space: 64 },
				{
					...axis, size: 62, grid: rows ? { show: false } : axis.grid, ticks: rows ? { show: false } : axis.ticks,
					splits: rows ? () => rows().map((r, i, all) => 1 - (i + 0.5) / all.length) : undefined,
					values: rows ? () => rows().map((r) => (r.length > 8 ? r.slice(0, 7) + '…' : r)) : undefined,
				},
			],
			series: [{ label: 'at', value: '{YYYY}-{MM}-{DD} {HH}:{mm}' }, ...kind.series()],
			hooks: { drawClear: kind.beneath ? [kind.beneath] : [], draw: [today] },
		};
	}

	// today is the line between what was and what is expected.
	function today(u) {
		const x = u.valToPos(d.to, 'x', true);
		u.ctx.strokeStyle = color('soft');
		u.ctx.lineWidth = uPlot.pxRatio;
		u.ctx.beginPath();
		u.ctx.moveTo(x, u.bbox.top);
		u.ctx.lineTo(x, u.bbox.top + u.bbox.height);
		u.ctx.stroke();
	}

	function draw() {
		$('plots').hidden = false;
		if (plots.length && plots.every((p) => p.rows === rowsOf(p.kind))) {
			for (const p of plots) p.u.setData(p.kind.data());
			return;
		}
		for (const p of plots) p.u.destroy();
		$('plots').replaceChildren();
		plots = kinds.map((kind) => {
			const figure = make('figure');
			const title = make('figcaption', '', kind.title);
			if (kind.hint) title.append(make('span', 'small', ' ' + kind.hint));
			const at = make('div', 'plot');
			at.tabIndex = 0;
			at.setAttribute('role', 'group');
			at.setAttribute('aria-label', kind.title + '. The arrow keys move the cursor; the numbers are in the table below.');
			figure.append(title, at);
			$('plots').append(figure);
			const u = new uPlot(options(kind, at.clientWidth), kind.data(), at);
			at.addEventListener('keydown', (e) => walk(e, u));
			return { kind, u, at, rows: rowsOf(kind) };
		});
	}
	const rowsOf = (kind) => (kind.rows ? kind.rows().join('\n') : '');

	// walk moves the cursor of all plots to the next time.
	function walk(e, u) {
		const by = { ArrowLeft: -1, ArrowRight: 1, PageUp: -20, PageDown: 20 }[e.key];
		if (!by) return;
		e.preventDefault();
		const x = u.data[0];
		const i = Math.max(0, Math.min(x.length - 1, (u.cursor.idx ?? x.length) + by));
		for (const p of plots) p.u.setCursor({ left: p.u.valToPos(x[i], 'x'), top: 0 });
	}

	function redraw() {
		if (!d) return;
		for (const p of plots) p.u.destroy();
		plots = [];
		draw();
	}

	let last = Date.now();
	async function tick() {
		if (document.hidden) return;
		last = Date.now();
		try {
			await live();
			if (d && last - drawn >= Math.max(60, d.step, (d.to - d.from) / 288) * 1000) await load();
			$('silent').hidden = true;
		} catch (e) {
			$('silent').hidden = false;
		}
	}

	async function choose(e) {
		const to = e.target.dataset.since;
		if (!to) return;
		e.preventDefault();
		since = to;
		for (const a of e.currentTarget.children) {
			if (a.dataset.since === to) a.setAttribute('aria-current', 'true');
			else a.removeAttribute('aria-current');
		}
		history.replaceState(null, '', '/?since=' + to);
		await Promise.all([load(), live()]).catch(() => { $('silent').hidden = false; });
	}

	document.querySelector('.search').hidden = false;
	$('find').addEventListener('input', search);
	document.querySelector('.ranges').addEventListener('click', choose);
	document.addEventListener('visibilitychange', () => { if (Date.now() - last >= poll) tick(); });
	matchMedia('(prefers-color-scheme: dark)').addEventListener('change', redraw);
	new ResizeObserver(() => { for (const p of plots) if (p.u.width !== p.at.clientWidth) p.u.setSize({ width: p.at.clientWidth, height: p.u.height }); }).observe($('plots'));
	setInterval(tick, poll);
	load().catch(() => { $('silent').hidden = false; });
})();

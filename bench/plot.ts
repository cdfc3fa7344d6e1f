// A small generator of SVG plots: lines over two axes, each linear or logarithmic. Pure.

export interface Line {
  readonly name: string;
  readonly points: readonly (readonly [x: number, y: number])[];
}

export interface Axis {
  readonly label: string;
  readonly scale: 'linear' | 'log';
  /** Marks with words of their own, where plain numbers say less. */
  readonly marks?: readonly (readonly [at: number, word: string])[];
}

export interface PlotOptions {
  readonly title: string;
  readonly x: Axis;
  readonly y: Axis;
  readonly lines: readonly Line[];
}

const WIDTH = 720;
const HEIGHT = 400;
const LEFT = 80;
const RIGHT = 150;
const TOP = 40;
const BOTTOM = 55;
const COLORS = ['#c0392b', '#2c3e50', '#2980b9', '#27ae60', '#8e44ad', '#d68910', '#7f8c8d'];

function escapeXml(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
}

function short(value: number): string {
  const size = Math.abs(value);
  if (size >= 1e9) return `${Number((value / 1e9).toPrecision(3))}G`;
  if (size >= 1e6) return `${Number((value / 1e6).toPrecision(3))}M`;
  if (size >= 1e3) return `${Number((value / 1e3).toPrecision(3))}k`;
  return String(Number(value.toPrecision(3)));
}

interface Scale {
  readonly place: (value: number) => number;
  readonly marks: readonly (readonly [number, string])[];
}

/** Powers of ten; where there are few of them, twice and five times them too. */
function logMarks(low: number, high: number): number[] {
  const steps = Math.log10(high / low) > 3 ? [1] : [1, 2, 5];
  const marks: number[] = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power += 1) {
    marks.push(...steps.map((step) => step * 10 ** power));
  }
  return marks.filter((mark) => mark >= low * 0.999 && mark <= high * 1.001);
}

function linearMarks(low: number, high: number): number[] {
  const step = 10 ** Math.floor(Math.log10((high - low || 1) / 2));
  const wide = (high - low) / step > 10 ? step * 5 : (high - low) / step > 5 ? step * 2 : step;
  const marks: number[] = [];
  for (let mark = Math.ceil(low / wide) * wide; mark <= high * 1.0001; mark += wide) marks.push(mark);
  return marks;
}

function scaleOf(axis: Axis, values: readonly number[], from: number, to: number): Scale {
  const high = Math.max(...values);
  const low =
    axis.scale === 'log' ? Math.min(...values.filter((value) => value > 0)) : Math.min(0, ...values);
  const bend = axis.scale === 'log' ? Math.log10 : (value: number): number => value;
  const span = bend(high) - bend(low) || 1;
  const place = (value: number): number =>
    from + ((bend(Math.max(value, low)) - bend(low)) / span) * (to - from);
  const plain = axis.scale === 'log' ? logMarks(low, high) : linearMarks(low, high);
  return { place, marks: axis.marks ?? plain.map((mark) => [mark, short(mark)] as const) };
}

function frame(options: PlotOptions, x: Scale, y: Scale): string[] {
  const bottom = HEIGHT - BOTTOM;
  const right = WIDTH - RIGHT;
  const parts = [
    `<text x="${LEFT}" y="22" font-size="15" font-weight="bold">${escapeXml(options.title)}</text>`,
    `<text x="${(LEFT + right) / 2}" y="${HEIGHT - 12}" text-anchor="middle">${escapeXml(options.x.label)}</text>`,
    `<text x="18" y="${(TOP + bottom) / 2}" text-anchor="middle" transform="rotate(-90 18 ${(TOP + bottom) / 2})">${escapeXml(options.y.label)}</text>`,
  ];
  for (const [value, word] of x.marks) {
    const at = x.place(value).toFixed(1);
    parts.push(`<path d="M${at} ${TOP}V${bottom}" stroke="#ddd"/>`);
    parts.push(`<text x="${at}" y="${bottom + 18}" text-anchor="middle">${escapeXml(word)}</text>`);
  }
  for (const [value, word] of y.marks) {
    const at = y.place(value).toFixed(1);
    parts.push(`<path d="M${LEFT} ${at}H${right}" stroke="#ddd"/>`);
    parts.push(`<text x="${LEFT - 8}" y="${at}" dy="4" text-anchor="end">${escapeXml(word)}</text>`);
  }
  parts.push(`<path d="M${LEFT} ${TOP}V${bottom}H${right}" fill="none" stroke="#333"/>`);
  return parts;
}

function drawLine(line: Line, number: number, x: Scale, y: Scale): string[] {
  const color = COLORS[number % COLORS.length] as string;
  const points = line.points.map(([px, py]) => `${x.place(px).toFixed(1)},${y.place(py).toFixed(1)}`);
  const row = TOP + 14 + number * 20;
  const legend = WIDTH - RIGHT + 14;
  return [
    `<polyline points="${points.join(' ')}" fill="none" stroke="${color}" stroke-width="2"/>`,
    ...(points.length > 12
      ? []
      : points.map((point) => `<circle cx="${point.replace(',', '" cy="')}" r="3" fill="${color}"/>`)),
    `<path d="M${legend} ${row}h18" stroke="${color}" stroke-width="3"/>`,
    `<text x="${legend + 24}" y="${row + 4}">${escapeXml(line.name)}</text>`,
  ];
}

export function plotSvg(options: PlotOptions): string {
  const drawn = options.lines.filter((line) => line.points.length > 0);
  if (drawn.length === 0) throw new Error(`nothing to draw in "${options.title}"`);
  const all = drawn.flatMap((line) => line.points);
  const x = scaleOf(
    options.x,
    all.map(([px]) => px),
    LEFT,
    WIDTH - RIGHT,
  );
  const y = scaleOf(
    options.y,
    all.map(([, py]) => py),
    HEIGHT - BOTTOM,
    TOP,
  );
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" font-family="sans-serif" font-size="12">`,
    `<rect width="${WIDTH}" height="${HEIGHT}" fill="white"/>`,
    ...frame(options, x, y),
    ...drawn.flatMap((line, number) => drawLine(line, number, x, y)),
    '</svg>',
    '',
  ].join('\n');
}

/** Where the tail of a distribution is what matters: half, one in ten, one in a hundred, ... */
export function latencyPlot(
  title: string,
  servers: readonly { name: string; histogram: readonly (readonly [number, number])[] }[],
): string {
  const lines = servers.map(({ name, histogram }): Line => {
    const total = histogram.reduce((sum, [, count]) => sum + count, 0);
    let below = 0;
    const points = histogram.flatMap(([upper_ns, count]) => {
      const rarity = total / (total - below);
      below += count;
      return [[rarity, upper_ns / 1000] as const];
    });
    return { name, points };
  });
  const marks = [
    [1, '0 %'],
    [2, '50 %'],
    [10, '90 %'],
    [100, '99 %'],
    [1000, '99.9 %'],
    [10_000, '99.99 %'],
  ] as const;
  const reach = Math.max(...lines.flatMap((line) => line.points.map(([rarity]) => rarity)));
  return plotSvg({
    title,
    x: {
      label: 'share of requests that are faster',
      scale: 'log',
      marks: marks.filter(([at]) => at <= reach),
    },
    y: { label: 'latency, µs', scale: 'log' },
    lines,
  });
}

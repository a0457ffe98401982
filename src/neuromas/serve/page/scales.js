// The arithmetic of charts and of the graph's edges: nothing here touches the page.

/** [lowest, highest] without spreading a long list. */
export const bounds = (values) => values.reduce(([a, b], v) => [Math.min(a, v), Math.max(b, v)], [Infinity, -Infinity]);

/** A round number at least as large as `gap`. */
export function nice(gap, steps = [1, 2, 2.5, 5, 10]) {
  const power = 10 ** Math.floor(Math.log10(gap));
  return power * steps.find((k) => k * power >= gap * (1 - 1e-9));
}

/** A linear axis that holds `low` and `high`: {low, high, ticks}. */
export function linear(low, high) {
  const gap = nice((high - low || 1) / 4);
  const [from, to] = [Math.floor(low / gap + 1e-9), Math.ceil((high > low ? high : low + gap) / gap - 1e-9)];
  const ticks = Array.from({ length: to - from + 1 }, (_, k) => Number(((from + k) * gap).toPrecision(12)));
  return { low: ticks[0], high: ticks.at(-1), ticks };
}

/** A logarithmic axis for values of which one is positive, in powers of ten: {low, high, ticks}; what is below `depth` of the highest does not count. */
export function logarithmic(values, depth) {
  const [, most] = bounds(values);
  const low = Math.floor(Math.log10(bounds(values.filter((value) => value >= most * depth))[0]));
  const high = Math.max(Math.ceil(Math.log10(most)), low + 1);
  const every = Math.ceil((high - low) / 5);
  const ticks = Array.from({ length: high - low + 1 }, (_, k) => 10 ** (low + k)).filter((_, k) => k % every === 0);
  return { low, high, ticks };
}

/** Whole steps from 0 to `last`, evenly spaced, about `count` of them. */
export function stops(last, count) {
  const gap = Math.max(1, nice(last / count, [1, 2, 5, 10]));
  return Array.from({ length: Math.floor(last / gap + 1e-9) + 1 }, (_, k) => k * gap);
}

/** The last point of a step up to `step`; by halves. */
export function upTo(points, step) {
  let [low, high] = [0, points.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (points[middle][0] <= step) low = middle + 1;
    else high = middle;
  }
  return points[low - 1];
}

/** Each point the mean of itself and of those before it, `count` in all. */
export function smooth(points, count) {
  let sum = 0;
  return points.map(([step, value], i) => {
    sum += value - (i >= count ? points[i - count][1] : 0);
    return [step, sum / Math.min(count, i + 1)];
  });
}

/** The mean of several curves at each step at which one of them has a point. */
export function mean(curves) {
  const at = new Map();
  for (const [step, value] of curves.flat()) at.set(step, [...(at.get(step) ?? []), value]);
  return [...at].sort(([a], [b]) => a - b).map(([step, values]) => [step, values.reduce((a, b) => a + b) / values.length]);
}

/**
 * Edges past layers need a lane in each of the layers: [{layer, key}] for nodes {id, layer, upstream}. A sender has its own
 * lane; where that would be more than `most` in a layer, the senders of one layer share one. laneOf(from) names it.
 */
export function lanes(nodes, most) {
  const layerOf = new Map(nodes.map((node) => [node.id, node.layer]));
  const found = new Map(); // layer → sender → its layer
  for (const node of nodes) {
    for (const from of node.upstream) {
      for (let layer = layerOf.get(from) + 1; layer < node.layer; layer++) {
        if (!found.has(layer)) found.set(layer, new Map());
        found.get(layer).set(from, layerOf.get(from));
      }
    }
  }
  const crowded = [...found.values()].some((senders) => senders.size > most);
  const laneOf = (from) => (crowded ? `layer ${layerOf.get(from)}` : from);
  const list = [...found].flatMap(([layer, senders]) => [...new Set([...senders.keys()].map(laneOf))].map((key) => ({ layer, key })));
  return { list, laneOf };
}

/** A smooth path through points [x, y]; bends lie along x, or with `down` along y. Between a lane's two ends it is straight. */
export function path(points, down) {
  const [first, ...others] = points;
  let [x, y] = first;
  return others.reduce((d, [x2, y2], i) => {
    const [mx, my] = down ? [0, (y2 - y) / 2] : [(x2 - x) / 2, 0];
    const piece = i % 2 ? `L${x2} ${y2}` : `C${x + mx} ${y + my} ${x2 - mx} ${y2 - my} ${x2} ${y2}`;
    [x, y] = [x2, y2];
    return d + piece;
  }, `M${x} ${y}`);
}

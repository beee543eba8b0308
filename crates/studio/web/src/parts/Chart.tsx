// Curves over epochs.
import { useEffect, useRef } from "preact/hooks";
import uPlot from "uplot";
import { t } from "../i18n";
import { hue } from "./colours";

export interface Line {
  name: string;
  epochs: number[];
  values: number[];
  colour?: string;
}

const HEIGHT = 240;

export function Chart({ title, lines, max }: { title: string; lines: Line[]; max?: number }) {
  const box = useRef<HTMLDivElement>(null);
  const plot = useRef<{ names: string; plot: uPlot }>();

  useEffect(() => {
    const here = box.current;
    if (!here) return;
    const data = aligned(lines);
    const names = lines.map((line) => line.name).join("\n");
    if (plot.current?.names === names) {
      plot.current.plot.setData(data);
      return;
    }
    plot.current?.plot.destroy();
    plot.current = { names, plot: new uPlot(options(here.clientWidth, lines, max), data, here) };
  }, [lines]);

  useEffect(() => {
    const fit = () => box.current && plot.current?.plot.setSize({ width: box.current.clientWidth, height: HEIGHT });
    const paint = () => plot.current?.plot.redraw();
    const watch = new ResizeObserver(fit);
    if (box.current) watch.observe(box.current);
    window.addEventListener("theme", paint);
    return () => {
      watch.disconnect();
      window.removeEventListener("theme", paint);
      plot.current?.plot.destroy();
      plot.current = undefined;
    };
  }, []);

  return (
    <figure class="chart">
      <figcaption>{title}</figcaption>
      <div ref={box} role="img" aria-label={`${title}: ${lines.map((line) => `${line.name} ${line.values.at(-1)?.toFixed(3) ?? ""}`).join(", ")}`} />
    </figure>
  );
}

/** All lines over the same epochs; what a line lacks is a gap. */
function aligned(lines: Line[]): uPlot.AlignedData {
  const epochs = [...new Set(lines.flatMap((line) => line.epochs))].sort((a, b) => a - b);
  const at = new Map(epochs.map((epoch, i) => [epoch, i]));
  const columns = lines.map((line) => {
    const column: (number | null)[] = new Array(epochs.length).fill(null);
    line.epochs.forEach((epoch, i) => (column[at.get(epoch)!] = line.values[i] ?? null));
    return column;
  });
  return [epochs, ...columns] as uPlot.AlignedData;
}

function options(width: number, lines: Line[], max: number | undefined): uPlot.Options {
  const colour = (name: string) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const axis = {
    stroke: () => colour("--soft"),
    grid: { stroke: () => colour("--line"), width: 1 },
    ticks: { show: false },
    font: "12px system-ui, sans-serif",
  };
  const long = lines.some((line) => line.epochs.length > 60);
  return {
    width,
    height: HEIGHT,
    cursor: { y: false },
    legend: { show: lines.length <= 12 },
    scales: { x: { time: false }, y: { range: (_, low, high) => [max ? 0 : low * 0.95, Math.min(max ?? Infinity, high * 1.05 || 1)] } },
    axes: [
      { ...axis, space: 50, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000] },
      { ...axis, size: 46 },
    ],
    series: [
      { label: t("epoch") },
      ...lines.map((line, i) => ({
        label: line.name,
        stroke: line.colour ?? hue(i),
        width: 2,
        spanGaps: true,
        points: { show: !long, size: 5 },
        value: (_: uPlot, value: number | null) => (value === null ? "–" : value.toFixed(4)),
      })),
    ],
  };
}

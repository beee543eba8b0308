// A histogram: bars with their numbers, and the same as a table for who does not see it.
import { number } from "../i18n";

export function Bars({ title, values, unit = "" }: { title: string; values: { name: string; value: number }[]; unit?: string }) {
  const most = Math.max(1, ...values.map(({ value }) => value));
  return (
    <figure class="bars">
      <figcaption>{title}</figcaption>
      <table>
        <tbody>
          {values.map(({ name, value }, i) => (
            <tr key={i}>
              <th scope="row">{name}</th>
              <td>
                <span class={value > 0 ? "bar" : ""} style={{ width: `${(100 * value) / most}%` }} />
              </td>
              <td class="number">
                {number(value, unit ? 1 : 0)}
                {unit}
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </figure>
  );
}

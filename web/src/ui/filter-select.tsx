import { words } from './format.ts';

/** A labelled choice of one value to filter a list by, or of any. */
export function FilterSelect({
  label,
  value,
  choices,
  onChoose,
}: {
  readonly label: string;
  readonly value: string | undefined;
  readonly choices: readonly string[];
  /** Called with the empty text for any value. */
  readonly onChoose: (value: string) => void;
}) {
  return (
    <label className="row">
      <span className="soft">{label}</span>
      <select value={value ?? ''} onChange={(event) => onChoose(event.target.value)} style={{ width: 'auto' }}>
        <option value="">any</option>
        {choices.map((choice) => (
          <option key={choice} value={choice}>
            {words(choice)}
          </option>
        ))}
      </select>
    </label>
  );
}

/** One field of an input, with a control that suits its type: a select, checkboxes, a number, or nested fields. */
import { Link } from '@tanstack/react-router';
import { graphql } from '../../api/graphql.ts';
import { useGraphQLQuery } from '../../api/hooks.ts';
import { useViewer } from '../../api/viewer.ts';
import { counted, words } from '../../ui/format.ts';
import {
  innerFields,
  isPlainList,
  isSwitched,
  labelOf,
  pathOf,
  shapeOf,
  type InputField,
  type InputTypes,
} from './schema.ts';

const CHOICES = graphql(`
  query Choices {
    datasets(first: 200) {
      nodes {
        id
        slug
        name
        latestVersion {
          id
          version
          imageCount
          labelNames
        }
      }
    }
    checkpoints(first: 200, filter: { published: false }) {
      nodes {
        id
        version
        architecture {
          name
        }
        sha256
        model {
          slug
        }
      }
    }
  }
`);
const VOCABULARY = graphql(`
  query Vocabulary {
    organs {
      code
      name
    }
    stains {
      code
      name
    }
  }
`);
const IMPORT_ROOTS = graphql(`
  query ImportRoots {
    importRoots
  }
`);

interface FieldProps {
  readonly field: InputField;
  /** The path of the enclosing input object; empty for the outermost. */
  readonly within: string;
  readonly types: InputTypes;
  readonly texts: Readonly<Record<string, string>>;
  readonly change: (path: string, text: string) => void;
  readonly faults: Readonly<Record<string, string>>;
}

export function Field({ field, within, types, texts, change, faults }: FieldProps) {
  const path = pathOf(within, field);
  const shape = shapeOf(field.type);
  const type = types.get(shape.typeName);
  const inner = innerFields(field, types, texts, path);
  const id = `field-${path.replaceAll('.', '-')}`;
  const noteId = `${id}-note`;
  const isNeeded = shape.isRequired && field.defaultValue === null;
  const label = `${labelOf(field.name)}${isNeeded ? ' *' : ''}`;
  if (inner !== undefined) {
    const isOn = !isSwitched(field) || texts[path] === 'true';
    return (
      <fieldset className="within">
        <legend>
          {isSwitched(field) ? (
            <label className="row">
              <input
                type="checkbox"
                checked={isOn}
                onChange={(event) => change(path, event.target.checked ? 'true' : '')}
              />
              <span>{label}</span>
            </label>
          ) : (
            label
          )}
        </legend>
        {field.description !== null && <p className="soft small">{field.description}</p>}
        {faults[path] !== undefined && (
          <p className="small">
            <strong className="fault">{faults[path]}</strong>
          </p>
        )}
        {(isOn ? inner : []).map((each) => (
          <Field
            key={each.name}
            field={{ ...each, type: isNeeded ? each.type : optional(each.type) }}
            within={path}
            types={types}
            texts={texts}
            change={change}
            faults={faults}
          />
        ))}
      </fieldset>
    );
  }
  const text = texts[path] ?? '';
  const setText = (next: string): void => change(path, next);
  // An error inside a list that is written as JSON is shown here as well.
  const fault = faults[path] ?? Object.entries(faults).find(([where]) => where.startsWith(`${path}.`))?.[1];
  const isList = isPlainList(shape, type?.enumValues != null);
  const isVocabulary = field.name === 'organs' || field.name === 'stains';
  const isCheckboxGroup = isVocabulary || (isList && type?.enumValues != null);
  const note = [
    isVocabulary ? null : field.description,
    field.defaultValue === null || type?.enumValues != null || shape.typeName === 'Boolean'
      ? null
      : `Default ${field.defaultValue}.`,
    isList && !isCheckboxGroup ? 'Several values, separated by commas.' : null,
  ]
    .filter((part) => part !== null)
    .join(' ');
  const attributes = {
    id,
    value: text,
    required: isNeeded,
    'aria-describedby': noteId,
    'aria-invalid': fault !== undefined,
  };
  const control = () => {
    if (hasPicker(field.name))
      return <Picker name={field.name} label={label} attributes={attributes} change={setText} />;
    if (isVocabulary)
      return (
        <VocabularyCheckboxes
          id={id}
          of={field.name === 'organs' ? 'organs' : 'stains'}
          label={label}
          text={text}
          change={setText}
        />
      );
    if (isCheckboxGroup)
      return (
        <CheckboxGroup
          id={id}
          label={label}
          choices={(type?.enumValues ?? []).map(({ name }) => ({ value: name, name: words(name) }))}
          text={text}
          change={setText}
        />
      );
    if (type?.enumValues != null || shape.typeName === 'Boolean') {
      const choices = type?.enumValues?.map(({ name }) => name) ?? ['true', 'false'];
      return (
        <select {...attributes} onChange={(event) => setText(event.target.value)}>
          <option value="">{field.defaultValue === null ? '' : `default: ${field.defaultValue}`}</option>
          {choices.map((choice) => (
            <option key={choice} value={choice}>
              {choice}
            </option>
          ))}
        </select>
      );
    }
    if (shape.typeName === 'JSON' || (shape.isList && !isList)) {
      const placeholder =
        type?.inputFields == null ? '{ }' : `[{ ${type.inputFields.map((each) => `"${each.name}": …`).join(', ')} }]`;
      return (
        <textarea
          {...attributes}
          rows={3}
          placeholder={placeholder}
          onChange={(event) => setText(event.target.value)}
        />
      );
    }
    const inputMode = shape.isList
      ? 'text'
      : shape.typeName === 'Int'
        ? 'numeric'
        : shape.typeName === 'Float'
          ? 'decimal'
          : 'text';
    return (
      <input
        {...attributes}
        inputMode={inputMode}
        placeholder={field.defaultValue ?? ''}
        onChange={(event) => setText(event.target.value)}
      />
    );
  };
  const isGroup = isCheckboxGroup || field.name === 'datasets';
  return (
    <div className="field">
      {isGroup ? (
        <span className="label" aria-hidden="true">
          {label}
        </span>
      ) : (
        <label htmlFor={id}>{label}</label>
      )}
      {control()}
      <p id={noteId} className="soft small">
        {note}
        {field.name === 'path' && <ImportRoots />}
        {fault !== undefined && <strong className="fault"> {fault}</strong>}
      </p>
    </div>
  );
}

/** In an optional input object, no field is required until one is filled in; the server then reports missing fields. */
function optional(type: InputField['type']): InputField['type'] {
  return type.kind === 'NON_NULL' && type.ofType != null ? type.ofType : type;
}

function ImportRoots() {
  const viewer = useViewer();
  const answer = useGraphQLQuery(IMPORT_ROOTS, {}, { enabled: viewer != null });
  return answer.data === undefined ? null : (
    <>
      {' '}
      Below:{' '}
      {answer.data.importRoots.map((root) => (
        <code key={root}>{root} </code>
      ))}
    </>
  );
}

interface CheckboxGroupProps {
  readonly id: string;
  readonly label: string;
  readonly choices: readonly { readonly value: string; readonly name: string }[];
  /** The checked values, separated by commas. */
  readonly text: string;
  readonly change: (text: string) => void;
}

/** Any number of values from a fixed list. */
function CheckboxGroup({ id, label, choices, text, change }: CheckboxGroupProps) {
  const checkedValues = text.split(',').filter((value) => value !== '');
  const toggle = (value: string, isOn: boolean): void =>
    change((isOn ? [...checkedValues, value] : checkedValues.filter((each) => each !== value)).join(','));
  return (
    <div className="ticks" id={id} role="group" aria-label={label}>
      {choices.map(({ value, name }) => (
        <label key={value}>
          <input
            type="checkbox"
            checked={checkedValues.includes(value)}
            onChange={(event) => toggle(value, event.target.checked)}
          />
          <span>{name}</span>
        </label>
      ))}
    </div>
  );
}

function VocabularyCheckboxes({
  of,
  ...props
}: Omit<CheckboxGroupProps, 'choices'> & { readonly of: 'organs' | 'stains' }) {
  const answer = useGraphQLQuery(VOCABULARY, {});
  return (
    <CheckboxGroup {...props} choices={(answer.data?.[of] ?? []).map(({ code, name }) => ({ value: code, name }))} />
  );
}

function hasPicker(name: string): boolean {
  return ['datasetId', 'datasetVersionId', 'checkpointId', 'initialCheckpointId', 'datasets'].includes(name);
}

interface PickerProps {
  readonly name: string;
  readonly label: string;
  readonly attributes: { readonly id: string; readonly value: string; readonly required: boolean };
  readonly change: (text: string) => void;
}

/** Ids are chosen by name. */
function Picker({ name, label, attributes, change }: PickerProps) {
  const answer = useGraphQLQuery(CHOICES, {});
  const datasets = answer.data?.datasets.nodes ?? [];
  const versions = datasets.flatMap((dataset) =>
    dataset.latestVersion === null
      ? []
      : [
          {
            ...dataset.latestVersion,
            label: `${dataset.name} v${dataset.latestVersion.version}, ${counted(dataset.latestVersion.imageCount, 'image')}${dataset.latestVersion.labelNames.length > 1 ? '' : ', no labels'}`,
          },
        ],
  );
  if (name === 'datasets')
    return (
      <VersionsPicker id={attributes.id} label={label} text={attributes.value} versions={versions} change={change} />
    );
  const options =
    name === 'datasetId'
      ? datasets.map((dataset) => ({ id: dataset.id, label: dataset.name }))
      : name === 'datasetVersionId'
        ? versions
        : (answer.data?.checkpoints.nodes ?? [])
            .filter((checkpoint) => checkpoint.sha256 !== null)
            .map((checkpoint) => ({
              id: checkpoint.id,
              label: `${checkpoint.model.slug} v${checkpoint.version} (${checkpoint.architecture.name})`,
            }));
  return (
    <select {...attributes} onChange={(event) => change(event.target.value)}>
      <option value="">choose …</option>
      {options.map((option) => (
        <option key={option.id} value={option.id}>
          {option.label}
        </option>
      ))}
    </select>
  );
}

interface VersionsPickerProps {
  readonly id: string;
  readonly label: string;
  readonly text: string;
  readonly versions: readonly { readonly id: string; readonly label: string }[];
  readonly change: (text: string) => void;
}

function VersionsPicker({ id, label, text, versions, change }: VersionsPickerProps) {
  const chosen = versions.filter((version) => text.includes(version.id)).map((version) => version.id);
  if (versions.length === 0)
    return (
      <p className="soft" id={id}>
        No images are here yet:{' '}
        <Link to="/new" search={{ what: 'importDatasetVersion' }}>
          import some
        </Link>
        .
      </p>
    );
  const toggle = (versionId: string, isOn: boolean): void => {
    const next = isOn ? [...chosen, versionId] : chosen.filter((each) => each !== versionId);
    change(next.length === 0 ? '' : JSON.stringify(next.map((datasetVersionId) => ({ datasetVersionId }))));
  };
  return (
    <div className="facet" id={id} role="group" aria-label={label}>
      {versions.map((version) => (
        <label key={version.id}>
          <input
            type="checkbox"
            checked={chosen.includes(version.id)}
            onChange={(event) => toggle(version.id, event.target.checked)}
          />
          <span>{version.label}</span>
        </label>
      ))}
    </div>
  );
}

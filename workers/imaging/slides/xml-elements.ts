/**
 * Reads the elements and attributes of an XML document; text between them is skipped. Enough for annotations, which
 * hold nothing else. Our own, because the parsers at hand expand entities and build what a document declares; here
 * a document type is refused, and a nesting has a bound.
 */

export interface XmlElement {
  readonly name: string;
  readonly attributes: ReadonlyMap<string, string>;
  readonly children: readonly XmlElement[];
}

export class XmlError extends Error {
  override readonly name = 'XmlError';
}

const DEPTH_MAX = 64;
const ENTITIES: Readonly<Record<string, string>> = { amp: '&', lt: '<', gt: '>', quot: '"', apos: "'" };
/** A comment, a declaration, a section of text, or a tag. */
const TOKEN =
  /<!--[^]*?-->|<\?[^]*?\?>|<!\[CDATA\[[^]*?\]\]>|<(\/?)([\p{L}_][\p{L}\p{N}_.:-]*)((?:\s+[^\s=<>/"']+\s*=\s*(?:"[^"<]*"|'[^'<]*'))*)\s*(\/?)>|</gu;
const ATTRIBUTE = /([^\s=<>/"']+)\s*=\s*(?:"([^"]*)"|'([^']*)')/gu;

/** @throws XmlError for a document that is not well-formed, or that declares a document type. */
export function readXml(text: string): XmlElement {
  if (/<!DOCTYPE/i.test(text)) throw new XmlError('It declares a document type, which is not read.');
  const open: (XmlElement & { readonly children: XmlElement[] })[] = [];
  let root: XmlElement | undefined;
  for (const { 0: token, 1: slash, 2: name, 3: attributes = '', 4: empty, index } of text.matchAll(TOKEN)) {
    if (name === undefined) {
      if (token === '<') throw new XmlError(`It is not XML at character ${index}.`);
      continue;
    }
    if (slash === '/') {
      if (open.pop()?.name !== name) throw new XmlError(`</${name}> at character ${index} closes nothing.`);
      continue;
    }
    const element = { name, attributes: attributesIn(attributes), children: [] };
    const parent = open.at(-1);
    if (parent !== undefined) parent.children.push(element);
    else if (root === undefined) root = element;
    else throw new XmlError(`A second root begins at character ${index}.`);
    if (empty !== '/') open.push(element);
    if (open.length > DEPTH_MAX) throw new XmlError(`Its elements are nested more than ${DEPTH_MAX} deep.`);
  }
  if (root === undefined) throw new XmlError('It has no element.');
  if (open.length > 0) throw new XmlError(`It ends within <${open.at(-1)?.name ?? ''}>.`);
  return root;
}

function attributesIn(text: string): ReadonlyMap<string, string> {
  const found = new Map<string, string>();
  for (const [, name = '', double, single] of text.matchAll(ATTRIBUTE))
    found.set(name, unescaped(double ?? single ?? ''));
  return found;
}

function unescaped(text: string): string {
  return text.replace(
    /&(?:#(\d{1,7})|#x([\da-f]{1,6})|(\w+));/gi,
    (whole, decimal?: string, hex?: string, name?: string) => {
      if (name !== undefined) return ENTITIES[name] ?? whole;
      const code = decimal === undefined ? Number.parseInt(hex ?? '', 16) : Number(decimal);
      return code <= 0x10ffff ? String.fromCodePoint(code) : whole;
    },
  );
}

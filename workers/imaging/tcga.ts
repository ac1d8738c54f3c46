/** Barcodes of The Cancer Genome Atlas: TCGA-XX-XXXX is a patient, wherever it stands. Pure. */

/** Project, tissue source site, participant; what follows names a sample, a portion, a slide of the same patient. */
const BARCODE = /(?<![a-z0-9])tcga[-._ ](?<site>[a-z0-9]{2})[-._ ](?<participant>[a-z0-9]{4})(?![a-z0-9])/gi;

/**
 * `TCGA-AB-0001` for the last barcode in a path or name, spelled with hyphens, dots, underscores or spaces and in any
 * case; null without one. `tcga_he_tile` is not one: unless a barcode is written as TCGA writes it, the participant
 * must hold a digit.
 */
export function tcgaPatientOf(text: string): string | null {
  let patient: string | null = null;
  for (const { 0: written, groups } of text.matchAll(BARCODE)) {
    const { site = '', participant = '' } = groups ?? {};
    const barcode = `TCGA-${site}-${participant}`.toUpperCase();
    if (written === barcode || /\d/.test(participant)) patient = barcode;
  }
  return patient;
}

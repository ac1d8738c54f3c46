/** Cards: descriptions of datasets and checkpoints in standard formats (Croissant, Hugging Face model cards). */
export { createCardService, type CardService, type CardServiceParts } from './cards.service.ts';
export { CROISSANT_MEDIA_TYPE } from './croissant.rules.ts';
export { MODEL_CARD_MEDIA_TYPE } from './model-card.rules.ts';

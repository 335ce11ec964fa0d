// Which part of a passage is shown below an answer: from the sentence on that has most of the answer's words.
// A word counts the more the fewer of the sentences have it, so that "the" says nothing.

const SENTENCES = new Intl.Segmenter(undefined, { granularity: "sentence" });
const WORDS = new Intl.Segmenter(undefined, { granularity: "word" });

/** The passage `text` from the sentence on which `answer` leans most; what is before it is an ellipsis. */
export function excerpt(text, answer) {
  const said = wordsOf(answer);
  const parts = [...SENTENCES.segment(text)].map(({ index, segment }) => {
    return { index, words: [...wordsOf(segment)].filter((word) => said.has(word)) };
  });
  const frequency = new Map();
  for (const word of parts.flatMap((part) => part.words)) frequency.set(word, (frequency.get(word) ?? 0) + 1);
  const weight = ({ words }) => words.reduce((sum, word) => sum + 1 / frequency.get(word), 0);
  const best = parts.reduce((one, other) => (weight(other) > weight(one) ? other : one), { index: 0, words: [] });
  return best.index ? `… ${text.slice(best.index).trimStart()}` : text;
}

function wordsOf(text) {
  const plain = text.toLowerCase().normalize("NFKD").replace(/\p{Mark}/gu, "");
  return new Set([...WORDS.segment(plain)].filter((one) => one.isWordLike).map((one) => one.segment));
}

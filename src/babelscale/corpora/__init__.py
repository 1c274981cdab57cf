"""Text in, tokens out: corpora and their split, the tokenizer, the token store."""

from babelscale.corpora.corpus import HELD_OUT_SHARE, Corpus, open_corpus
from babelscale.corpora.store import TokenStore, build_store
from babelscale.corpora.tokenizer import Tokenizer, train_tokenizer

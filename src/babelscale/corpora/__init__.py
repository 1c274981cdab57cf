"""Text in, tokens out: corpora and their split, parallel test sets, the tokenizer, the token store."""

from babelscale.corpora.corpus import HELD_OUT_SHARE, Corpus
from babelscale.corpora.opening import open_corpus
from babelscale.corpora.parallel import ParallelSet, open_parallel
from babelscale.corpora.passages import Dealt, deal_passages, is_verse_text
from babelscale.corpora.store import TokenStore
from babelscale.corpora.store_builder import build_store
from babelscale.corpora.tokenizer import Tokenizer, adopt_tokenizer, tokenizer_hash, train_tokenizer

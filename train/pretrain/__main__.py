"""Pretrain a small model on running text.

python -m train.pretrain gpt                                  a causal character model on Shakespeare's plays
python -m train.pretrain gpt --data book.txt --tokenizer byte-bpe --vocab-size 2000
python -m train.pretrain gpt --init RUN --data more.txt       start from another run, or from a GPT-2 checkpoint
python -m train.pretrain bert                                 a masked model on film reviews and the Bible in English
python -m train.pretrain bert --objective roberta --data reviews,more.txt

Without a subcommand, the model is gpt.
"""

import sys

from train.pretrain.bert.__main__ import main as bert
from train.pretrain.gpt.__main__ import main as gpt

JOBS = {"gpt": gpt, "bert": bert}


def main(arguments: list[str] | None = None) -> None:
    arguments = sys.argv[1:] if arguments is None else arguments
    name = arguments[0] if arguments and arguments[0] in JOBS else None
    if name is None and {"-h", "--help"} & set(arguments):
        print(f"{__doc__}\nThese are the options of gpt; for bert see `python -m train.pretrain bert --help`.\n")
    JOBS[name or "gpt"](arguments[1:] if name else arguments)


if __name__ == "__main__":
    main()

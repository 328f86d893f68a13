"""A browser for tests of `access login`: opens the address, logs in as $TEST_PERSON, follows to the end."""

from __future__ import annotations

import os
import sys
from urllib.parse import urljoin

import httpx2


def main(address: str) -> None:
    with httpx2.Client(timeout=20) as http:
        answer = http.get(address)
        while answer.status_code in {302, 303}:
            address = urljoin(address, answer.headers["location"])
            answer = http.get(address)
            if "Who are you?" in answer.text:
                answer = http.post(address, data={"sub": os.environ["TEST_PERSON"]})


if __name__ == "__main__":
    main(sys.argv[1])

"""Calls of std::filesystem that throw stand in framework/base/file_system.cpp only: a folder without permission, a loop of links or a long name
is an input that is refused with its path and reason, and their message is neither. The forms with an error code may stand anywhere."""
import re

from sources import PRODUCT, finish, list_sources, read, root_from_arguments

HOME = "framework/base/file_system.cpp"
CALL = re.compile(r"\b(?:fs|filesystem)::(absolute|canonical|copy(?:_file|_symlink)?|create_\w+|current_path|(?:recursive_)?directory_iterator|equivalent|exists|"
                  r"file_size|hard_link_count|is_\w+|last_write_time|permissions|proximate|read_symlink|relative|remove(?:_all)?|rename|resize_file|space|"
                  r"status|symlink_status|temp_directory_path|weakly_canonical)\s*(?:\w+\s*)?\(")
BY_ARGUMENT = re.compile(r"(?<![\w.>:])(is_directory|is_regular_file|create_director(?:y|ies)|weakly_canonical|equivalent)\(")  # found without the namespace
ENTRY = re.compile(r"\bentry(?:\.|->)(?:exists|file_size|is_\w+|last_write_time|refresh|status|symlink_status)\(\)")
CODE = re.compile(r"\b(?:error|ignored)$")


def arguments_of(text, begin):
    """What stands between the parenthesis that opens before `begin` and the one that closes it."""
    depth = 1
    for end in range(begin, len(text)):
        depth += {"(": 1, ")": -1}.get(text[end], 0)
        if depth == 0:
            return text[begin:end]
    return text[begin:]


def check(root):
    findings = []
    for path in list_sources(root, PRODUCT):
        if path == HOME:
            continue
        text = read(root, path)
        found = [(match.start(), match.group(1)) for call in (CALL, BY_ARGUMENT) for match in call.finditer(text) if not CODE.search(arguments_of(text, match.end()).strip())]
        # A loop over an iterator throws where it goes on, whatever its first call was given.
        found += [(match.start(), match.group(0)) for match in re.finditer(r"\bfor \([^;()]*: *(?:fs|std::filesystem)::\w*directory_iterator", text)]
        found += [(match.start(), match.group(0)) for match in ENTRY.finditer(text)]
        findings += [f"{path}:{text.count(chr(10), 0, place) + 1}: {what} throws what says neither path nor reason; use {HOME.replace('.cpp', '.hpp')}"
                     for place, what in sorted(set(found))]
    return findings


if __name__ == "__main__":
    finish(check(root_from_arguments()))

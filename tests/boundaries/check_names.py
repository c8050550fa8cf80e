"""A type has one definition in the whole repository, and so has a function that other files could call: two of one name in one program are
undefined behaviour that no compiler and no linker reports. Reads the text of all files, in a second; tests/check_odr.sh asks the compiler."""
import re

from sources import PRODUCT, finish, list_sources, read, root_from_arguments

NOISE = re.compile(r"""//[^\n]*|/\*.*?\*/|R"(?P<tag>\w*)\(.*?\)(?P=tag)"|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])+'|^[ \t]*\#(?:\\\n|[^\n])*""",
                   re.DOTALL | re.MULTILINE | re.VERBOSE)
DIGITS = re.compile(r"(?<=\d)'(?=\d)")
TEMPLATE = re.compile(r"\btemplate\s*<(?:[^<>]|<(?:[^<>]|<[^<>]*>)*>)*>")
LABEL = re.compile(r"\b(?:public|private|protected)\s*:(?!:)")
NAMESPACE = re.compile(r"^(?:inline\s+)?namespace\b\s*([\w:]*)$")
TYPE = re.compile(r"^(?:typedef\s+)?(?:struct|class|union|enum(?:\s+(?:class|struct))?)\s+(?:\[\[.*?\]\]\s*|alignas\s*\([^)]*\)\s*)*([\w:]+)\s*(?:final\s*)?(?::.*)?$", re.DOTALL)
FUNCTION = re.compile(r"^(?!.*\b(?:static|inline|constexpr|operator|return|typedef|using|friend)\b)[\w:<>,&*\s\[\]]+?[\s&*]([\w:~]+)\s*\((.*)\)\s*(const)?\s*(?:noexcept\s*)?$", re.DOTALL)


def blank(match):
    """Nothing, but as many lines."""
    return " " + "\n" * match.group(0).count("\n")


def definitions_of(text):
    """(kind, qualified name, line) of each type and each function with external linkage that the text defines."""
    text = NOISE.sub(blank, DIGITS.sub("", text))
    scopes = []  # of each open brace: the namespace's or type's name, "" for a nameless namespace, None for anything else
    begin = 0
    for match in re.finditer(r"[{};]", text):
        statement = TEMPLATE.sub("", LABEL.sub("", text[begin:match.start()])).strip()
        is_template = "template" in text[begin:match.start()]
        begin = match.end()
        if match.group(0) == "}":
            if scopes:
                scopes.pop()
            continue
        if match.group(0) == ";":
            continue
        namespace, kind, function = NAMESPACE.match(statement), TYPE.match(statement), FUNCTION.match(statement)
        linked = None not in scopes and "" not in scopes
        line = text.count("\n", 0, match.start()) + 1
        if namespace:
            scopes.append(namespace.group(1))
        elif kind:
            scopes.append(kind.group(1))
            if linked:
                yield "type", "::".join(scopes), line
        else:
            if function and linked and not is_template:
                parameters = re.sub(r"\s+", " ", function.group(2))
                yield "function", "::".join([*scopes, function.group(1)]) + f"({parameters}){function.group(3) or ''}", line
            scopes.append(None)


def check(root):
    found = {}
    for path in list_sources(root, PRODUCT + ("tests",)):
        if "without_cuda" in path:  # instead of others, never beside them
            continue
        for kind, name, line in definitions_of(read(root, path)):
            if kind == "function" and path.endswith((".hpp", ".cuh")) or name == "main(int argc, char** argv)":
                continue  # a header's functions are inline, or the linker finds them twice
            found.setdefault((kind, name), {}).setdefault(path, line)  # twice in one file: the compiler sees to it
    findings = []
    for (kind, name), places in sorted(found.items()):
        first, *others = [f"{path}:{line}" for path, line in places.items()]
        findings += [f"{first}: {kind} {name} is also defined at {', '.join(others)}"] if others else []
    return findings


if __name__ == "__main__":
    finish(check(root_from_arguments()))

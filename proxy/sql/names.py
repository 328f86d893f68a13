"""The name PostgreSQL gives an output column without AS (FigureColname in parse_target.c)."""

from __future__ import annotations

from proxy.sql.tree import Message, inner, kind, named, strings

_FIXED_NAMES = {
    "coalesce_expr": "coalesce",
    "a_array_expr": "array",
    "row_expr": "row",
    "xml_expr": "xml",
    "grouping_func": "grouping",
    "json_object_constructor": "json_object",
    "json_array_constructor": "json_array",
}


def output_name(node: Message) -> str:
    """The name PostgreSQL gives an output column without AS (FigureColname in parse_target.c)."""
    name = kind(node)
    if name in ("column_ref", "func_call"):
        parts = strings(node.column_ref.fields if name == "column_ref" else node.func_call.funcname)
        return parts[-1] if parts else "?column?"
    if name == "type_cast":
        inside = output_name(node.type_cast.arg)
        return inside if inside != "?column?" else strings(node.type_cast.type_name.names)[-1]
    if name == "a_indirection":
        fields = strings(node.a_indirection.indirection)
        return fields[-1] if fields else output_name(node.a_indirection.arg)
    if name == "collate_clause":
        return output_name(node.collate_clause.arg)
    if name == "case_expr":
        inside = output_name(node.case_expr.defresult) if kind(node.case_expr.defresult) else "?column?"
        return inside if inside != "?column?" else "case"
    if name == "sub_link":
        return _sublink_name(node.sub_link)
    if name == "min_max_expr":
        return "greatest" if node.min_max_expr.op == 1 else "least"
    if name == "sqlvalue_function":
        function = node.sqlvalue_function
        ops = function.DESCRIPTOR.fields_by_name["op"].enum_type.values_by_number
        return str(ops[function.op].name).removeprefix("SVFOP_").removesuffix("_N").lower()
    return _FIXED_NAMES.get(name, "?column?")


def _sublink_name(link: Message) -> str:
    how = link.DESCRIPTOR.fields_by_name["sub_link_type"].enum_type.values_by_number[link.sub_link_type].name
    if how == "EXISTS_SUBLINK":
        return "exists"
    if how == "ARRAY_SUBLINK":
        return "array"
    select = inner(link.subselect)
    if how == "EXPR_SUBLINK" and named(select) == "SelectStmt":
        while select.HasField("larg"):
            select = select.larg
        if select.target_list:
            target = select.target_list[0].res_target
            return target.name or output_name(target.val)
        return "column1"
    return "?column?"
